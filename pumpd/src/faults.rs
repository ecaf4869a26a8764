//! What a build for tests can be told to do wrong.
//!
//! A broken build is made from the true program by some bytes behind its end, which make it another
//! build and say how it fails (`pump_test::fake::faulty`). So what is tested is the program itself, up to
//! the moment at which it goes wrong. Each function here is one line somewhere in the program.
//!
//! Only builds with debug assertions, or with the feature `faults`, read those bytes. In a release every
//! function below does nothing, and `cargo xtask dist` refuses a program that could.

#[cfg(any(debug_assertions, feature = "faults"))]
mod armed;
#[cfg(any(debug_assertions, feature = "faults"))]
mod attempts;
#[cfg(not(any(debug_assertions, feature = "faults")))]
mod never;

#[cfg(any(debug_assertions, feature = "faults"))]
pub(crate) use armed::*;
#[cfg(not(any(debug_assertions, feature = "faults")))]
pub(crate) use never::*;
