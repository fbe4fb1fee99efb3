//! The functions of the template language.
//!
//! [`table()`] is the one list of them; [`call()`] calls one with everything that holds
//! for all of them: conversion of arguments, null, unknown and marked values.
//! Functions see files, clocks, chance and secrets only through [`World`].
//!
//! `try`, `can` and `convert` take unevaluated arguments and belong to the evaluator;
//! [`EVALUATED_ELSEWHERE`] names them.

mod args;
mod call;
mod charset;
mod clock;
mod csv;
mod floats;
mod function;
mod functions;
mod glob;
mod gzip;
mod paths;
mod regexp;
mod table;
mod text;
mod world;
mod yaml;

pub use call::{call, check_count};
pub use function::{
    BodyFn, CallContext, Function, FunctionError, Kind, Param, Place, Returns, TypeFn,
};
pub use table::{EVALUATED_ELSEWHERE, find, groups, names, table};
pub use world::{FileKind, MemoryWorld, World};
