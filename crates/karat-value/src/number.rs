//! Numbers: binary floats that carry their precision, with a fast path for machine integers.

use std::cmp::Ordering;
use std::fmt;
use std::sync::Arc;

use dashu_int::{IBig, Sign, UBig};

use crate::decimal;
use crate::float::{Float, Kind};

/// A number of the template language.
///
/// A number has a precision, and arithmetic rounds (to nearest, ties to even) to the larger
/// precision of its operands: 512 bits for what was written as text, 64 for counted integers,
/// 53 for results of floating-point functions. There are infinities and a negative zero, but no
/// NaN: what would give one is an error.
#[derive(Clone)]
pub struct Number(Repr);

#[derive(Clone)]
enum Repr {
    /// Exact at `prec` bits.
    Small {
        value: i64,
        prec: u16,
    },
    Big(Arc<Float>),
}

/// Why there is no number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum NumberError {
    /// The text is no number.
    NotANumber,
    /// Zero by zero, or infinity by infinity.
    IndeterminateDivision,
    /// Zero times infinity.
    ZeroTimesInfinity,
    /// Infinity minus infinity.
    InfinityMinusInfinity,
    /// The remainder of, or by, infinity.
    InfiniteModulo,
}

impl fmt::Display for NumberError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotANumber => "a number is required",
            Self::IndeterminateDivision => "can't divide zero by zero or infinity by infinity",
            Self::ZeroTimesInfinity => "can't multiply zero by infinity",
            Self::InfinityMinusInfinity => "can't subtract infinity from itself",
            Self::InfiniteModulo => "can't compute a remainder with infinity",
        })
    }
}

impl std::error::Error for NumberError {}

/// Precision of numbers that were written as text.
const TEXT_PREC: u16 = 512;
const INT_PREC: u16 = 64;
/// No number is written with more digits.
const MAX_DIGITS: usize = 1_000_000;

impl Number {
    /// Zero.
    pub const ZERO: Self = Self(Repr::Small { value: 0, prec: INT_PREC });

    fn small(value: i64, prec: u16) -> Self {
        if prec >= INT_PREC || value.unsigned_abs() < 1 << prec.min(63) {
            Self(Repr::Small { value, prec })
        } else {
            Self::big(Float::round(value < 0, UBig::from(value.unsigned_abs()), 0, prec, false))
        }
    }

    fn big(float: Float) -> Self {
        // Back to the fast path where nothing is lost by it.
        match &float.kind {
            Kind::Zero if !float.neg => return Self(Repr::Small { value: 0, prec: float.prec }),
            Kind::Finite { exp, .. } if *exp >= 0 && *exp < 64 => {
                let value = float.trunc().and_then(|whole| i64::try_from(&whole).ok());
                if let Some(value) = value
                    && (float.prec >= INT_PREC || value < 1 << float.prec.min(62))
                {
                    let value = if float.neg { -value } else { value };
                    return Self(Repr::Small { value, prec: float.prec });
                }
            }
            _ => {}
        }
        Self(Repr::Big(Arc::new(float)))
    }

    fn float(&self) -> Float {
        match &self.0 {
            Repr::Small { value, prec } => {
                Float::round(*value < 0, UBig::from(value.unsigned_abs()), 0, *prec, false)
            }
            Repr::Big(float) => (**float).clone(),
        }
    }

    /// The number of bits that operations on it keep at least.
    pub fn precision(&self) -> u16 {
        match &self.0 {
            Repr::Small { prec, .. } => *prec,
            Repr::Big(float) => float.prec,
        }
    }

    /// From a double. NaN is an error.
    pub fn from_f64(value: f64) -> Result<Self, NumberError> {
        if value.is_nan() {
            return Err(NumberError::NotANumber);
        }
        Ok(Self::big(Float::from_f64(value)))
    }

    /// From an integer of any size, exactly.
    pub fn from_bigint(value: &IBig) -> Self {
        if let Ok(value) = i64::try_from(value) {
            return Self::small(value, INT_PREC);
        }
        let (sign, magnitude) = value.clone().into_parts();
        let bits = dashu_int::ops::BitTest::bit_len(&magnitude);
        let prec = u16::try_from(bits).unwrap_or(u16::MAX).max(INT_PREC);
        Self::big(Float::round(sign == Sign::Negative, magnitude, 0, prec, false))
    }

    /// Reads decimal text at 512 bits: `1`, `-1.5e3`, `.5`, `5.`, `+1`, `Inf`, `1p3` (times 2³).
    /// Blanks, underscores, other bases and "NaN" are errors.
    pub fn parse(text: &str) -> Result<Self, NumberError> {
        parse(text).map(Self::big)
    }

    /// The whole number in `text` with digits `0-9a-zA-Z` below `radix` (2 to 62; from 37 on,
    /// capitals come after small letters), with an optional sign.
    pub fn parse_radix(text: &str, radix: u32) -> Result<Self, NumberError> {
        let (negative, digits) = match text.as_bytes() {
            [b'-', rest @ ..] => (true, rest),
            [b'+', rest @ ..] => (false, rest),
            all => (false, all),
        };
        if digits.is_empty() || !(2..=62).contains(&radix) || digits.len() > 65_536 {
            return Err(NumberError::NotANumber);
        }
        let mut value = UBig::ZERO;
        for digit in digits {
            let digit = match digit {
                b'0'..=b'9' => digit - b'0',
                b'a'..=b'z' => digit - b'a' + 10,
                b'A'..=b'Z' if radix <= 36 => digit - b'A' + 10,
                b'A'..=b'Z' => digit - b'A' + 36,
                _ => return Err(NumberError::NotANumber),
            };
            if u32::from(digit) >= radix {
                return Err(NumberError::NotANumber);
            }
            value = value * radix + digit;
        }
        let sign = if negative { Sign::Negative } else { Sign::Positive };
        Ok(Self::from_bigint(&IBig::from_parts(sign, value)))
    }

    /// The exact value as a machine integer, if it is one. Negative zero is 0.
    pub fn to_i64(&self) -> Option<i64> {
        match &self.0 {
            Repr::Small { value, .. } => Some(*value),
            Repr::Big(float) if float.is_integer() => {
                let magnitude = i128::try_from(&float.trunc()?).ok()?;
                i64::try_from(if float.neg { -magnitude } else { magnitude }).ok()
            }
            Repr::Big(_) => None,
        }
    }

    /// The exact value as an index or count, if it is one.
    pub fn to_usize(&self) -> Option<usize> {
        usize::try_from(self.to_i64()?).ok()
    }

    /// The exact value as an integer of any size, if it is whole.
    pub fn to_bigint(&self) -> Option<IBig> {
        self.is_integer().then(|| self.trunc_bigint())?
    }

    /// The whole part, rounded towards zero; `None` for infinities.
    pub fn trunc_bigint(&self) -> Option<IBig> {
        let float = self.float();
        let sign = if float.neg { Sign::Negative } else { Sign::Positive };
        Some(IBig::from_parts(sign, float.trunc()?))
    }

    /// The nearest double; infinite when out of range.
    pub fn to_f64(&self) -> f64 {
        match &self.0 {
            Repr::Small { value, .. } => *value as f64,
            Repr::Big(float) => float.to_f64(),
        }
    }

    /// Whether it is a whole number. Infinities are not.
    pub fn is_integer(&self) -> bool {
        match &self.0 {
            Repr::Small { .. } => true,
            Repr::Big(float) => float.is_integer(),
        }
    }

    /// Whether it is ±infinity.
    pub fn is_infinite(&self) -> bool {
        matches!(&self.0, Repr::Big(float) if matches!(float.kind, Kind::Infinite))
    }

    /// Whether it is zero, of either sign.
    pub fn is_zero(&self) -> bool {
        match &self.0 {
            Repr::Small { value, .. } => *value == 0,
            Repr::Big(float) => matches!(float.kind, Kind::Zero),
        }
    }

    /// Whether its sign is negative, true also of negative zero.
    pub fn is_sign_negative(&self) -> bool {
        match &self.0 {
            Repr::Small { value, .. } => *value < 0,
            Repr::Big(float) => float.neg,
        }
    }

    /// -1, 0 or 1.
    pub fn signum(&self) -> i64 {
        match (self.is_zero(), self.is_sign_negative()) {
            (true, _) => 0,
            (false, true) => -1,
            (false, false) => 1,
        }
    }

    /// The number without its sign.
    #[must_use]
    pub fn abs(&self) -> Self {
        if self.is_sign_negative() { self.neg() } else { self.clone() }
    }

    /// The number with its sign turned; of 0 it is -0.
    #[must_use]
    pub fn neg(&self) -> Self {
        match &self.0 {
            Repr::Small { value, prec } if *value != 0 && *value != i64::MIN => {
                Self::small(-value, *prec)
            }
            _ => Self::big(self.float().neg()),
        }
    }

    /// Rounded down to a whole number. Infinities stay.
    #[must_use]
    pub fn floor(&self) -> Self {
        self.whole(true)
    }

    /// Rounded up to a whole number. Infinities stay.
    #[must_use]
    pub fn ceil(&self) -> Self {
        self.whole(false)
    }

    fn whole(&self, down: bool) -> Self {
        if self.is_integer() {
            return self.clone();
        }
        match self.trunc_bigint() {
            None => self.clone(),
            Some(whole) if down == self.is_sign_negative() => {
                let step = if down { -IBig::ONE } else { IBig::ONE };
                Self::from_bigint(&(whole + step))
            }
            Some(whole) => Self::from_bigint(&whole),
        }
    }

    /// `self + other`
    pub fn add(&self, other: &Self) -> Result<Self, NumberError> {
        let prec = self.precision().max(other.precision());
        if let (Repr::Small { value: a, .. }, Repr::Small { value: b, .. }) = (&self.0, &other.0)
            && let Some(sum) = a.checked_add(*b)
        {
            return Ok(Self::small(sum, prec));
        }
        self.float().add(&other.float(), prec).map(Self::big)
    }

    /// `self - other`
    pub fn sub(&self, other: &Self) -> Result<Self, NumberError> {
        let prec = self.precision().max(other.precision());
        if let (Repr::Small { value: a, .. }, Repr::Small { value: b, .. }) = (&self.0, &other.0)
            && let Some(difference) = a.checked_sub(*b)
        {
            return Ok(Self::small(difference, prec));
        }
        self.float().add(&other.float().neg(), prec).map(Self::big)
    }

    /// `self * other`
    pub fn mul(&self, other: &Self) -> Result<Self, NumberError> {
        let prec = self.precision().max(other.precision());
        if let (Repr::Small { value: a, .. }, Repr::Small { value: b, .. }) = (&self.0, &other.0)
            && *a != 0
            && *b != 0
            && let Some(product) = a.checked_mul(*b)
        {
            return Ok(Self::small(product, prec));
        }
        self.float().mul(&other.float(), prec).map(Self::big)
    }

    /// `self / other`; by zero it is infinite.
    pub fn div(&self, other: &Self) -> Result<Self, NumberError> {
        let prec = self.precision().max(other.precision());
        self.float().div(&other.float(), prec).map(Self::big)
    }

    /// `self % other`, with the sign of `self`; by zero it is `self`.
    pub fn rem(&self, other: &Self) -> Result<Self, NumberError> {
        if self.is_infinite() || other.is_infinite() {
            return Err(NumberError::InfiniteModulo);
        }
        if other.is_zero() {
            return Ok(self.clone());
        }
        let (a, b) = (self.float(), other.float());
        let quotient = a.div(&b, a.prec.max(b.prec))?;
        let Some(whole) = quotient.trunc() else { return Err(NumberError::InfiniteModulo) };
        let whole = Float::round(quotient.neg, whole, 0, a.prec, false);
        let product = b.mul(&whole, a.prec)?;
        a.add(&product.neg(), a.prec).map(Self::big)
    }

    /// The shortest decimal, never with an exponent, that reads back as the same number at its
    /// precision: what a number becomes as text. `+Inf`, `-Inf` for infinities.
    pub fn to_text(&self) -> String {
        match &self.0 {
            Repr::Small { value, .. } => value.to_string(),
            Repr::Big(float) => decimal::format(float, 'f', None),
        }
    }

    /// As C's printf writes it with the verb `e`, `E`, `f`, `F`, `g` or `G` and a number of
    /// places; `None` for the fewest digits that read back the same at its precision. No width,
    /// no flags; infinities are `+Inf`, `-Inf`.
    pub fn format(&self, verb: char, places: Option<usize>) -> String {
        let verb = if verb == 'F' { 'f' } else { verb };
        decimal::format(&self.float(), verb, places)
    }

    /// What a console prints: whole numbers of 64 bits in full, all others as a double with `%g`.
    pub fn console(&self) -> String {
        match self.to_i64() {
            Some(value) => value.to_string(),
            None => format_f64(self.to_f64()),
        }
    }
}

/// A double as C's `%g` with the fewest digits that read back the same double.
fn format_f64(value: f64) -> String {
    if !value.is_finite() {
        return if value > 0.0 { "+Inf".into() } else { "-Inf".into() };
    }
    if value == 0.0 {
        return "0".into();
    }
    // "d.ddde-7": the digits are the shortest already.
    let text = format!("{:e}", value.abs());
    let (mantissa, exp) = text.split_once('e').unwrap_or((&text, "0"));
    let digits = mantissa.replace('.', "").into_bytes();
    let exp = exp.parse::<i64>().unwrap_or(0) + 1;
    decimal::general_text(value < 0.0, digits, exp)
}

fn parse(text: &str) -> Result<Float, NumberError> {
    let (neg, rest) = match text.as_bytes() {
        [b'-', ..] => (true, &text[1..]),
        [b'+', ..] => (false, &text[1..]),
        _ => (false, text),
    };
    if rest == "Inf" || rest == "inf" {
        return Ok(Float::infinity(neg, TEXT_PREC));
    }
    let (mantissa, exponent) = match rest.find(['e', 'E', 'p', 'P']) {
        Some(at) => {
            (&rest[..at], Some((rest.as_bytes()[at].to_ascii_lowercase(), &rest[at + 1..])))
        }
        None => (rest, None),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let is_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if whole.len() + fraction.len() == 0 || !is_digits(whole) || !is_digits(fraction) {
        return Err(NumberError::NotANumber);
    }
    let exponent = match exponent {
        None => (b'e', 0),
        Some((base, text)) => (base, parse_exponent(text)?),
    };
    let digits = format!("{whole}{fraction}");
    let digits = digits.trim_start_matches('0');
    if digits.is_empty() {
        return Ok(Float::zero(neg, TEXT_PREC));
    }
    if digits.len() > MAX_DIGITS {
        return Err(NumberError::NotANumber);
    }
    let mant = UBig::from_str_radix(digits, 10).map_err(|_| NumberError::NotANumber)?;
    let shift = -(fraction.len() as i64);
    let (exp2, exp5) = match exponent {
        (b'e', exp) => (shift + exp, shift + exp),
        (_, exp) => (shift + exp, shift),
    };
    // Go's parser keeps binary exponents in 32 bits, and takes it for no number beyond.
    if (exp2 + digits.len() as i64 * 3).unsigned_abs() > 1 << 31 {
        return Err(NumberError::NotANumber);
    }
    // Far out of range, and not worth computing.
    let size = digits.len() as i64 + exp5 + exp2.saturating_sub(exp5) / 3;
    if size > crate::float::MAX_EXP {
        return Ok(Float::infinity(neg, TEXT_PREC));
    }
    if size < -crate::float::MAX_EXP {
        return Ok(Float::zero(neg, TEXT_PREC));
    }
    // The powers of two come last, so that no step on the way is out of range.
    let power = Float::pow5(exp5.unsigned_abs(), TEXT_PREC + 64)?;
    let exact = Float::round(neg, mant, 0, u16::MAX, false);
    let scaled = match exp5 {
        0 => exact.with_prec(TEXT_PREC),
        1.. => exact.mul(&power, TEXT_PREC)?,
        _ => exact.div(&power, TEXT_PREC)?,
    };
    Ok(match scaled.kind {
        Kind::Finite { mant, exp } => Float::round(neg, mant, exp + exp2, TEXT_PREC, false),
        _ => scaled,
    })
}

fn parse_exponent(text: &str) -> Result<i64, NumberError> {
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(NumberError::NotANumber);
    }
    // A number of so many digits is out of range in any case.
    let value = digits.parse::<i64>().unwrap_or(i64::MAX).min(1 << 40);
    Ok(if text.starts_with('-') { -value } else { value })
}

impl PartialEq for Number {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Number {}

impl PartialOrd for Number {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// By value; 0 and -0 are equal, and precision does not matter.
impl Ord for Number {
    fn cmp(&self, other: &Self) -> Ordering {
        match (&self.0, &other.0) {
            (Repr::Small { value: a, .. }, Repr::Small { value: b, .. }) => a.cmp(b),
            _ => self.float().cmp(&other.float()),
        }
    }
}

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_text())
    }
}

impl fmt::Debug for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl From<i64> for Number {
    fn from(value: i64) -> Self {
        Self::small(value, INT_PREC)
    }
}

impl From<i32> for Number {
    fn from(value: i32) -> Self {
        Self::from(i64::from(value))
    }
}

impl From<u32> for Number {
    fn from(value: u32) -> Self {
        Self::from(i64::from(value))
    }
}

impl From<usize> for Number {
    fn from(value: usize) -> Self {
        Self::from(value as u64)
    }
}

impl From<u64> for Number {
    fn from(value: u64) -> Self {
        i64::try_from(value).map_or_else(|_| Self::from_bigint(&IBig::from(value)), Self::from)
    }
}
