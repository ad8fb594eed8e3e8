//! Struct formats: compile once, decode many.
