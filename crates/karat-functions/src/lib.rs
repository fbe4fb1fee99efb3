//! The functions of the template language.
//!
//! [`table`] is the one list of them; [`call`] calls one with everything that holds
//! for all of them: conversion of arguments, null, unknown and marked values.
//! Functions see files, clocks, chance and secrets only through [`World`].
//!
//! `try`, `can` and `convert` take unevaluated arguments and belong to the
//! evaluator; [`EVALUATED_ELSEWHERE`] names them.

mod call;
mod function;
mod paths;
mod world;

pub use call::call;
pub use function::{
    BodyFn, CallContext, Function, FunctionError, Kind, Param, Place, Returns, TypeFn,
};
pub use world::{FileKind, MemoryWorld, World};
