//! Powers, exponentials and logarithms of 64-bit floats, to the last bit as Go computes
//! them on 64-bit x86, since templates print all digits. They are good to a unit in the
//! last place; the system's own functions are so too, but not always the same one.

/// The parts of ln 2, the first of them with zeros at its end.
const LN2_HIGH: f64 = 6.931_471_803_691_238e-1;
const LN2_LOW: f64 = 1.908_214_929_270_587_7e-10;

/// A number as a fraction from 0.5 up to 1 and a power of two.
fn split(x: f64) -> (f64, i32) {
    if x == 0.0 || !x.is_finite() {
        return (x, 0);
    }
    let (x, below) = if x.is_subnormal() { (x * (1_u64 << 52) as f64, 52) } else { (x, 0) };
    let bits = x.to_bits();
    let exponent = ((bits >> 52) & 0x7ff) as i32 - 1022;
    (f64::from_bits(bits & !(0x7ff << 52) | 1022 << 52), exponent - below)
}

/// A number times a power of two.
fn scale(x: f64, power: i64) -> f64 {
    let (fraction, exponent) = split(x);
    if fraction == 0.0 || !fraction.is_finite() {
        return x;
    }
    // The fraction is below 1, the exponent field counts from 1.
    let exponent = power.saturating_add(i64::from(exponent)) - 1;
    if exponent < -1075 {
        return 0.0_f64.copysign(x);
    }
    if exponent > 1023 {
        return f64::INFINITY.copysign(x);
    }
    // What is below the normal range is rounded once, in the last multiplication.
    let (exponent, rest) = if exponent < -1022 {
        (exponent + 53, 1.0 / (1_u64 << 53) as f64)
    } else {
        (exponent, 1.0)
    };
    let bits = fraction.to_bits() & !(0x7ff << 52) | ((exponent + 1023) as u64) << 52;
    rest * f64::from_bits(bits)
}

/// The natural logarithm, by the classic reduction to the interval around 1 and a
/// polynomial in ((x - 1) / (x + 1))².
pub(crate) fn ln(x: f64) -> f64 {
    if x.is_nan() || x == f64::INFINITY {
        return x;
    }
    if x < 0.0 {
        return f64::NAN;
    }
    if x == 0.0 {
        return f64::NEG_INFINITY;
    }
    let (mut fraction, mut exponent) = split(x);
    if fraction < std::f64::consts::FRAC_1_SQRT_2 {
        fraction *= 2.0;
        exponent -= 1;
    }
    let f = fraction - 1.0;
    let k = f64::from(exponent);
    let s = f / (2.0 + f);
    let s2 = s * s;
    let s4 = s2 * s2;
    let odd = s2
        * (6.666_666_666_666_735e-1
            + s4 * (2.857_142_874_366_239e-1
                + s4 * (1.818_357_216_161_805e-1 + s4 * 1.479_819_860_511_658_6e-1)));
    let even = s4
        * (3.999_999_999_940_942e-1
            + s4 * (2.222_219_843_214_978_4e-1 + s4 * 1.531_383_769_920_937_3e-1));
    let half_square = 0.5 * f * f;
    let sum = half_square + (odd + even);
    k * LN2_HIGH - ((half_square - (s * sum + k * LN2_LOW)) - f)
}

/// The exponential of a number between -708 and 709, by a Taylor series for a sixteenth
/// of the reduced argument (Shibata, Efficient evaluation methods of elementary
/// functions suitable for SIMD computation, 2010).
fn exp(x: f64) -> f64 {
    const UPPER: f64 = 0.693_147_180_559_662_956_511_601_805_686_950_683_593_75;
    const LOWER: f64 = 0.282_352_905_630_315_771_225_884_481_750_134e-12;
    let exponent = (std::f64::consts::LOG2_E * x).round_ties_even();
    let reduced = (-exponent).mul_add(UPPER, x);
    let reduced = (-exponent).mul_add(LOWER, reduced) * 0.0625;
    let mut sum = 1.0 / 40_320.0;
    for divisor in [5_040.0, 720.0, 120.0, 24.0, 6.0, 2.0, 1.0] {
        sum = f64::mul_add(reduced, sum, 1.0 / divisor);
    }
    // From e^t - 1 to e^2t - 1, three times, and the last time to e^16t.
    let mut less_one = reduced * sum;
    for _ in 0..3 {
        less_one *= less_one + 2.0;
    }
    let result = (less_one + 2.0).mul_add(less_one, 1.0);
    scale(result, exponent as i64)
}

/// A power, by squaring for the whole part of the exponent.
pub(crate) fn pow(x: f64, y: f64) -> f64 {
    let odd = y.abs() < (1_u64 << 53) as f64 && y.trunc() == y && y.trunc() as i64 & 1 == 1;
    if y == 0.0 || x == 1.0 {
        return 1.0;
    }
    if y == 1.0 {
        return x;
    }
    if x.is_nan() || y.is_nan() {
        return f64::NAN;
    }
    if x == 0.0 || y.is_infinite() || x.is_infinite() {
        return pow_at_limits(x, y, odd);
    }
    if y == 0.5 {
        return x.sqrt();
    }
    if y == -0.5 {
        return 1.0 / x.sqrt();
    }
    let (mut whole, mut fraction) = (y.abs().trunc(), y.abs().fract());
    if fraction != 0.0 && x < 0.0 {
        return f64::NAN;
    }
    if whole >= (1_u64 << 63) as f64 {
        return match (x == -1.0, (x.abs() < 1.0) == (y > 0.0)) {
            (true, _) => 1.0,
            (_, true) => 0.0,
            _ => f64::INFINITY,
        };
    }
    let mut result = 1.0;
    let mut result_exponent: i64 = 0;
    if fraction != 0.0 {
        if fraction > 0.5 {
            fraction -= 1.0;
            whole += 1.0;
        }
        result = exp(fraction * ln(x));
    }
    let (mut square, exponent) = split(x);
    let mut exponent = i64::from(exponent);
    let mut bits = whole as i64;
    while bits != 0 {
        if !(-4096..=4096).contains(&exponent) {
            // Far out of range already.
            result_exponent += exponent;
            break;
        }
        if bits & 1 == 1 {
            result *= square;
            result_exponent += exponent;
        }
        square *= square;
        exponent *= 2;
        if square < 0.5 {
            square += square;
            exponent -= 1;
        }
        bits >>= 1;
    }
    if y < 0.0 {
        result = 1.0 / result;
        result_exponent = -result_exponent;
    }
    scale(result, result_exponent)
}

/// Powers of zero and infinity, and to infinity.
fn pow_at_limits(x: f64, y: f64, odd: bool) -> f64 {
    if x == 0.0 {
        let sign = if odd { x } else { 0.0 };
        return if y < 0.0 { f64::INFINITY.copysign(sign) } else { 0.0_f64.copysign(sign) };
    }
    if y.is_infinite() {
        return match (x == -1.0, (x.abs() < 1.0) == (y > 0.0)) {
            (true, _) => 1.0,
            (_, true) => 0.0,
            _ => f64::INFINITY,
        };
    }
    if x > 0.0 {
        return if y < 0.0 { 0.0 } else { f64::INFINITY };
    }
    pow_at_limits(-0.0, -y, odd)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn to_the_last_bit() {
        assert_eq!(pow(10.0, 308.0), 1.000_000_000_000_000_6e308);
        assert_eq!(pow(2.0, -1074.0), 5e-324);
        assert_eq!(pow(2.0, 0.5), std::f64::consts::SQRT_2);
        assert_eq!(ln(2.0) / ln(10.0), 0.301_029_995_663_981_14);
        assert_eq!(ln(1000.0) / ln(10.0), 2.999_999_999_999_999_6);
    }

    #[test]
    fn limits() {
        assert_eq!(pow(0.0, -1.0), f64::INFINITY);
        assert_eq!(pow(-0.0, -3.0), f64::NEG_INFINITY);
        assert_eq!(pow(f64::NEG_INFINITY, 3.0), f64::NEG_INFINITY);
        assert_eq!(pow(f64::NEG_INFINITY, -2.0), 0.0);
        assert_eq!(pow(-1.0, f64::INFINITY), 1.0);
        assert!(pow(-8.0, 1.0 / 3.0).is_nan());
        assert_eq!(pow(10.0, 400.0), f64::INFINITY);
        assert_eq!(pow(10.0, -400.0), 0.0);
        assert_eq!(ln(0.0), f64::NEG_INFINITY);
        assert!(ln(-1.0).is_nan());
    }
}
