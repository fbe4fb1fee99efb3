//! Binary floats of a given precision, rounded to nearest, ties to even; with signed zeros and
//! infinities. The arithmetic under [`crate::Number`].

use std::cmp::Ordering;

use dashu_int::UBig;
use dashu_int::ops::{BitTest, DivRem};

use crate::NumberError;

/// Powers of two beyond this are infinite, below its negative zero. Keeps every number's decimal
/// text below some 80,000 digits.
pub(crate) const MAX_EXP: i64 = 1 << 18;

#[derive(Clone, Debug)]
pub(crate) enum Kind {
    Zero,
    /// `mant * 2^exp` with an odd `mant`.
    Finite {
        mant: UBig,
        exp: i64,
    },
    Infinite,
}

#[derive(Clone, Debug)]
pub(crate) struct Float {
    pub(crate) neg: bool,
    pub(crate) prec: u16,
    pub(crate) kind: Kind,
}

impl Float {
    pub(crate) fn zero(neg: bool, prec: u16) -> Self {
        Self { neg, prec, kind: Kind::Zero }
    }

    pub(crate) fn infinity(neg: bool, prec: u16) -> Self {
        Self { neg, prec, kind: Kind::Infinite }
    }

    /// `mant * 2^exp` rounded to `prec` bits; `sticky` says that something below the last bit
    /// of `mant` was cut off.
    pub(crate) fn round(neg: bool, mant: UBig, exp: i64, prec: u16, sticky: bool) -> Self {
        let mut mant = mant;
        let mut exp = exp;
        if mant.is_zero() {
            return Self::zero(neg, prec);
        }
        let bits = mant.bit_len();
        let want = usize::from(prec);
        if bits > want {
            let cut = bits - want;
            let half = mant.bit(cut - 1);
            let below = sticky || mant.trailing_zeros().is_some_and(|zeros| zeros < cut - 1);
            mant >>= cut;
            exp += cut as i64;
            if half && (below || mant.bit(0)) {
                mant += 1u8;
            }
        }
        let zeros = mant.trailing_zeros().unwrap_or(0);
        if zeros > 0 {
            mant >>= zeros;
            exp += zeros as i64;
        }
        let top = exp + mant.bit_len() as i64;
        if top > MAX_EXP {
            return Self::infinity(neg, prec);
        }
        if top < -MAX_EXP {
            return Self::zero(neg, prec);
        }
        Self { neg, prec, kind: Kind::Finite { mant, exp } }
    }

    pub(crate) fn with_prec(&self, prec: u16) -> Self {
        match &self.kind {
            Kind::Finite { mant, exp } if mant.bit_len() > usize::from(prec) => {
                Self::round(self.neg, mant.clone(), *exp, prec, false)
            }
            kind => Self { neg: self.neg, prec, kind: kind.clone() },
        }
    }

    pub(crate) fn from_f64(value: f64) -> Self {
        let neg = value.is_sign_negative();
        if value == 0.0 {
            return Self::zero(neg, 53);
        }
        if !value.is_finite() {
            return Self::infinity(neg, 53);
        }
        let bits = value.to_bits();
        let raw = (bits >> 52) & 0x7ff;
        let fraction = bits & ((1 << 52) - 1);
        let (mant, exp) =
            if raw == 0 { (fraction, -1074) } else { (fraction | 1 << 52, raw as i64 - 1075) };
        Self::round(neg, UBig::from(mant), exp, 53, false)
    }

    /// The nearest double.
    pub(crate) fn to_f64(&self) -> f64 {
        let magnitude = match &self.kind {
            Kind::Zero => 0.0,
            Kind::Infinite => f64::INFINITY,
            Kind::Finite { mant, exp } => {
                // The place of the last bit that a double can hold at this size.
                let top = exp + mant.bit_len() as i64;
                let last = (top - 53).max(-1074);
                let (kept, exp) = if last > *exp {
                    let cut = usize::try_from(last - exp).unwrap_or(usize::MAX);
                    let bits = mant.bit_len();
                    let half = cut <= bits && mant.bit(cut - 1);
                    let below = mant.trailing_zeros().is_some_and(|zeros| zeros < cut - 1);
                    let mut kept = if cut > bits { UBig::ZERO } else { mant >> cut };
                    if half && (below || kept.bit(0)) {
                        kept += 1u8;
                    }
                    (kept, last)
                } else {
                    (mant.clone(), *exp)
                };
                // At most 53 bits (or one power of two), so the first step is exact.
                let value = u64::try_from(&kept).map_or(f64::INFINITY, |kept| kept as f64);
                scale(value, exp)
            }
        };
        if self.neg { -magnitude } else { magnitude }
    }

    pub(crate) fn neg(&self) -> Self {
        Self { neg: !self.neg, ..self.clone() }
    }

    pub(crate) fn add(&self, other: &Self, prec: u16) -> Result<Self, NumberError> {
        match (&self.kind, &other.kind) {
            (Kind::Infinite, Kind::Infinite) if self.neg != other.neg => {
                Err(NumberError::InfinityMinusInfinity)
            }
            (Kind::Zero, Kind::Zero) => Ok(Self::zero(self.neg && other.neg, prec)),
            (Kind::Infinite, _) | (_, Kind::Zero) => Ok(self.with_prec(prec)),
            (_, Kind::Infinite) | (Kind::Zero, _) => Ok(other.with_prec(prec)),
            (Kind::Finite { mant: a, exp: ae }, Kind::Finite { mant: b, exp: be }) => {
                let exp = *ae.min(be);
                let shift = |mant: &UBig, e: i64| mant << usize::try_from(e - exp).unwrap_or(0);
                let (a, b) = (shift(a, *ae), shift(b, *be));
                if self.neg == other.neg {
                    return Ok(Self::round(self.neg, a + b, exp, prec, false));
                }
                Ok(match a.cmp(&b) {
                    Ordering::Equal => Self::zero(false, prec),
                    Ordering::Greater => Self::round(self.neg, a - b, exp, prec, false),
                    Ordering::Less => Self::round(other.neg, b - a, exp, prec, false),
                })
            }
        }
    }

    pub(crate) fn mul(&self, other: &Self, prec: u16) -> Result<Self, NumberError> {
        let neg = self.neg != other.neg;
        match (&self.kind, &other.kind) {
            (Kind::Infinite, Kind::Zero) | (Kind::Zero, Kind::Infinite) => {
                Err(NumberError::ZeroTimesInfinity)
            }
            (Kind::Infinite, _) | (_, Kind::Infinite) => Ok(Self::infinity(neg, prec)),
            (Kind::Zero, _) | (_, Kind::Zero) => Ok(Self::zero(neg, prec)),
            (Kind::Finite { mant: a, exp: ae }, Kind::Finite { mant: b, exp: be }) => {
                Ok(Self::round(neg, a * b, ae + be, prec, false))
            }
        }
    }

    pub(crate) fn div(&self, other: &Self, prec: u16) -> Result<Self, NumberError> {
        let neg = self.neg != other.neg;
        match (&self.kind, &other.kind) {
            (Kind::Zero, Kind::Zero) | (Kind::Infinite, Kind::Infinite) => {
                Err(NumberError::IndeterminateDivision)
            }
            (Kind::Zero, _) | (_, Kind::Infinite) => Ok(Self::zero(neg, prec)),
            (_, Kind::Zero) | (Kind::Infinite, _) => Ok(Self::infinity(neg, prec)),
            (Kind::Finite { mant: a, exp: ae }, Kind::Finite { mant: b, exp: be }) => {
                let shift = (usize::from(prec) + 2 + b.bit_len()).saturating_sub(a.bit_len());
                let (quotient, rest) = (a << shift).div_rem(b);
                // One more bit keeps the sticky bit out of the rounding bit's place.
                let exp = ae - be - shift as i64;
                Ok(Self::round(neg, quotient, exp, prec, !rest.is_zero()))
            }
        }
    }

    pub(crate) fn cmp(&self, other: &Self) -> Ordering {
        let magnitude = match (&self.kind, &other.kind) {
            (Kind::Zero, Kind::Zero) => return Ordering::Equal,
            (Kind::Zero, _) => return if other.neg { Ordering::Greater } else { Ordering::Less },
            (_, Kind::Zero) => return if self.neg { Ordering::Less } else { Ordering::Greater },
            _ if self.neg != other.neg => {
                return if self.neg { Ordering::Less } else { Ordering::Greater };
            }
            (Kind::Infinite, Kind::Infinite) => Ordering::Equal,
            (Kind::Infinite, _) => Ordering::Greater,
            (_, Kind::Infinite) => Ordering::Less,
            (Kind::Finite { mant: a, exp: ae }, Kind::Finite { mant: b, exp: be }) => {
                let top = |mant: &UBig, exp: i64| mant.bit_len() as i64 + exp;
                top(a, *ae).cmp(&top(b, *be)).then_with(|| {
                    let exp = *ae.min(be);
                    let shift = |mant: &UBig, e: i64| mant << usize::try_from(e - exp).unwrap_or(0);
                    shift(a, *ae).cmp(&shift(b, *be))
                })
            }
        };
        if self.neg { magnitude.reverse() } else { magnitude }
    }

    /// The whole part, rounded towards zero; `None` for infinities.
    pub(crate) fn trunc(&self) -> Option<UBig> {
        match &self.kind {
            Kind::Zero => Some(UBig::ZERO),
            Kind::Infinite => None,
            Kind::Finite { mant, exp } if *exp >= 0 => {
                Some(mant << usize::try_from(*exp).unwrap_or(0))
            }
            Kind::Finite { mant, exp } => {
                let cut = usize::try_from(-exp).unwrap_or(usize::MAX);
                Some(if cut >= mant.bit_len() { UBig::ZERO } else { mant >> cut })
            }
        }
    }

    pub(crate) fn is_integer(&self) -> bool {
        match &self.kind {
            Kind::Zero => true,
            Kind::Infinite => false,
            Kind::Finite { exp, .. } => *exp >= 0,
        }
    }

    /// Five to the power of `n`, rounded to `prec` bits at each step as Go's parser does it.
    pub(crate) fn pow5(n: u64, prec: u16) -> Result<Self, NumberError> {
        const EXACT: u64 = 27;
        let five = |n: u64| UBig::from(5u8).pow(usize::try_from(n).unwrap_or(0));
        if n <= EXACT {
            return Ok(Self::round(false, five(n), 0, prec, false));
        }
        let mut result = Self::round(false, five(EXACT), 0, prec, false);
        let wide = prec + 64;
        let mut factor = Self::round(false, UBig::from(5u8), 0, wide, false);
        let mut rest = n - EXACT;
        while rest > 0 {
            if rest & 1 == 1 {
                result = result.mul(&factor, prec)?;
            }
            rest >>= 1;
            if rest > 0 {
                factor = factor.mul(&factor, wide)?;
            }
        }
        Ok(result)
    }
}

/// `value * 2^exp` where the result is representable, or too large.
fn scale(value: f64, exp: i64) -> f64 {
    let mut value = value;
    let mut exp = exp;
    while exp > 1000 && value.is_finite() && value != 0.0 {
        value *= 2f64.powi(1000);
        exp -= 1000;
    }
    while exp < -1000 && value != 0.0 {
        // Multiplying in two exact steps: the mantissa was already cut to what fits.
        value *= 2f64.powi(-1000);
        exp += 1000;
    }
    if value == 0.0 || !value.is_finite() {
        return value;
    }
    #[expect(clippy::cast_possible_truncation, reason = "the loops leave |exp| <= 1000")]
    let exp = exp as i32;
    value * 2f64.powi(exp)
}
