//! The chores: demo, test, dist, figures.
fn main() {}
