//! The only SQL: queries by noun, and the migrations.
