//! What Go does with text, where templates show it: strings and numbers as `strconv` reads them,
//! values as `fmt` prints them.

mod number;
pub(crate) mod print;
pub mod quote;

pub use number::{Constant, Number, scan_number};
