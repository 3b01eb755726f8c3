"""Tell what a run will take, before it starts: estimated or measured, and what makes it fit."""
