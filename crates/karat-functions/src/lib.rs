//! The functions that templates can call. Files, clock, environment and network only through World.
