//! Values of the template language: types, 512-bit numbers, unknown and sensitive marks,
//! conversion. Pure.
//!
//! - [`Type`]: what a value is. [`Type::Dynamic`] is "any" in a type expression and the type of an
//!   untyped null.
//! - [`Number`]: a binary float that carries its precision, as Packer's are.
//! - [`Value`]: a typed null, an unknown value with a type, or a known value; with [`Marks`].
//! - [`Facts`]: what is known of an unknown value besides its type.
//! - [`convert()`], [`unify()`]: the only two ways from one type to another. `==` never converts.
//! - [`json`]: to and from JSON. [`mod@print`]: what a console shows.

mod convert;
mod decimal;
mod display;
mod equal;
mod facts;
mod float;
pub mod json;
mod marks;
mod number;
pub mod print;
mod set;
mod types;
mod unify;
mod value;
mod weight;

pub use convert::{ConvertError, PathStep, can_convert, convert, mismatch};
pub use facts::{Bound, Facts};
pub use marks::{Mark, Marks};
pub use number::{Number, NumberError};
pub use types::{ObjectType, Type};
pub use unify::{unify, unify_values};
pub use value::{Data, Elements, Value};
pub use weight::Weighed;
