//! Values of the template language: types, 512-bit numbers, unknown and sensitive marks, conversion. Pure.
