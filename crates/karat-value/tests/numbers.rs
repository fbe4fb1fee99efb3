//! Numbers: parsing, arithmetic at their precision, and text.

use karat_value::{Number, NumberError};
use proptest::prelude::*;

fn number(text: &str) -> Number {
    Number::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn repeat(start: &str, digit: char, count: usize, end: &str) -> String {
    let middle: String = std::iter::repeat_n(digit, count).collect();
    format!("{start}{middle}{end}")
}

#[test]
fn arithmetic_rounds_at_512_bits() {
    let one = number("1");
    let third = one.div(&number("3")).unwrap();
    assert_eq!(third.to_text(), repeat("0.", '3', 154, "5"));
    assert_eq!(third.mul(&number("3")).unwrap().to_text(), "1");
    assert_eq!(number("0.1").add(&number("0.2")).unwrap(), number("0.3"));
    let difference = number("0.3").sub(&number("0.1")).unwrap();
    assert!(difference.to_text().starts_with("0.2000") && difference.to_text().ends_with("02"));
    assert_eq!(number("100").mul(&number("1.1")).unwrap().to_text(), "110");
}

#[test]
fn precision_is_that_of_the_wider_operand() {
    let counted = Number::from(1);
    let narrow = counted.div(&Number::from(3)).unwrap();
    assert_eq!(narrow.precision(), 64);
    assert_eq!(narrow.to_text(), "0.33333333333333333334");
    assert_eq!(counted.div(&number("3")).unwrap().precision(), 512);
    let double = Number::from_f64(18_446_744_073_709_551_616.0).unwrap();
    assert_eq!(double.to_text(), "18446744073709550000");
    assert_eq!(double.to_bigint().unwrap().to_string(), "18446744073709551616");
}

#[test]
fn remainders_take_the_sign_of_the_dividend() {
    let rem = |a: &str, b: &str| number(a).rem(&number(b)).unwrap().to_text();
    assert_eq!(rem("-7", "3"), "-1");
    assert_eq!(rem("7", "-3"), "1");
    assert_eq!(rem("7", "0"), "7");
    assert_eq!(rem("7.5", "2"), "1.5");
    assert_eq!(rem("1e20", "7"), "2");
}

#[test]
fn infinities_and_what_is_no_number() {
    let (zero, one) = (number("0"), number("1"));
    let infinity = one.div(&zero).unwrap();
    assert_eq!(infinity.to_text(), "+Inf");
    assert_eq!(number("-1").div(&zero).unwrap().to_text(), "-Inf");
    assert_eq!(zero.div(&zero), Err(NumberError::IndeterminateDivision));
    assert_eq!(infinity.sub(&infinity), Err(NumberError::InfinityMinusInfinity));
    assert_eq!(zero.mul(&infinity), Err(NumberError::ZeroTimesInfinity));
    assert_eq!(one.rem(&infinity), Err(NumberError::InfiniteModulo));
    for text in ["", " 1", "1_000", "0x10", "NaN", ".", "1e", "e1", "--1", "1 "] {
        assert_eq!(Number::parse(text), Err(NumberError::NotANumber), "{text:?}");
    }
}

#[test]
fn text_is_plain_and_shortest() {
    for (given, text) in [
        ("1e21", "1000000000000000000000"),
        ("-0", "-0"),
        ("007", "7"),
        (".5", "0.5"),
        ("5.", "5"),
        ("+1", "1"),
        ("1E3", "1000"),
        ("Inf", "+Inf"),
        ("1p3", "8"),
        ("0.000001", "0.000001"),
        ("9223372036854775808", "9223372036854775808"),
        ("-9223372036854775808", "-9223372036854775808"),
        ("123456789.123456789", "123456789.123456789"),
    ] {
        assert_eq!(number(given).to_text(), text, "{given}");
    }
    assert_eq!(number("1e-400").to_text(), repeat("0.", '0', 399, "1"));
    assert_eq!(number("1e999999999"), number("Inf"));
    assert!(number("1e-999999999").is_zero());
    assert_eq!(Number::parse("1e9999999999"), Err(NumberError::NotANumber));
}

#[test]
fn formats_like_printf() {
    for (given, verb, places, text) in [
        ("1000000", 'g', None, "1e+06"),
        ("123456", 'g', None, "123456"),
        ("123456789012345678901234567890", 'g', None, "1.2345678901234567890123456789e+29"),
        ("3.14159", 'f', Some(2), "3.14"),
        ("2.5", 'f', Some(0), "2"),
        ("3.5", 'f', Some(0), "4"),
        ("0.05", 'f', Some(1), "0.1"),
        ("0.001", 'f', Some(1), "0.0"),
        ("0", 'e', Some(2), "0.00e+00"),
        ("12345", 'e', Some(2), "1.23e+04"),
        ("12345", 'E', None, "1.2345E+04"),
        ("99999", 'g', Some(3), "1e+05"),
        ("0.0001", 'g', None, "0.0001"),
        ("0.00001", 'g', None, "1e-05"),
        ("100", 'g', Some(10), "100"),
    ] {
        assert_eq!(number(given).format(verb, places), text, "{given} {verb} {places:?}");
    }
}

#[test]
fn consoles_show_doubles() {
    for (given, text) in [
        ("123456789.123456789", "1.2345678912345679e+08"),
        ("0.000001", "1e-06"),
        ("9223372036854775808", "9.223372036854776e+18"),
        ("1e400", "+Inf"),
        ("-0", "0"),
        ("9223372036854775807", "9223372036854775807"),
        ("1e-400", "0"),
    ] {
        assert_eq!(number(given).console(), text, "{given}");
    }
}

#[test]
fn whole_parts() {
    for (given, floor, ceil) in
        [("1.5", "1", "2"), ("-1.5", "-2", "-1"), ("3", "3", "3"), ("0.1", "0", "1")]
    {
        assert_eq!(number(given).floor().to_text(), floor);
        assert_eq!(number(given).ceil().to_text(), ceil);
    }
    assert_eq!(Number::parse_radix("zz", 36).unwrap().to_i64(), Some(1295));
    assert_eq!(Number::parse_radix("Z", 62).unwrap().to_i64(), Some(61));
    assert_eq!(Number::parse_radix("-10", 2).unwrap().to_i64(), Some(-2));
    assert!(Number::parse_radix("0xff", 16).is_err());
}

proptest! {
    #[test]
    fn text_reads_back_the_same(mantissa in any::<i64>(), exponent in -400i32..400) {
        let given = number(&format!("{mantissa}e{exponent}"));
        prop_assert_eq!(number(&given.to_text()), given);
    }

    #[test]
    fn doubles_survive(value in any::<f64>()) {
        prop_assume!(!value.is_nan());
        let number = Number::from_f64(value).unwrap();
        prop_assert_eq!(number.to_f64(), value);
        prop_assert_eq!(number.format('e', None).parse::<f64>().unwrap(), value);
    }

    #[test]
    fn decimals_become_the_nearest_double(mantissa in any::<i64>(), exponent in -340i32..300) {
        let text = format!("{mantissa}e{exponent}");
        prop_assert_eq!(number(&text).to_f64(), text.parse::<f64>().unwrap());
    }

    #[test]
    fn small_numbers_agree_with_machine_integers(a in any::<i64>(), b in any::<i64>()) {
        let (x, y) = (Number::from(a), Number::from(b));
        prop_assert_eq!(x.cmp(&y), a.cmp(&b));
        if let Some(sum) = a.checked_add(b) {
            prop_assert_eq!(x.add(&y).unwrap().to_i64(), Some(sum));
        }
        if let Some(product) = a.checked_mul(b) {
            prop_assert_eq!(x.mul(&y).unwrap().to_i64(), Some(product));
        }
        if b != 0 {
            let wide = |n: i64| number(&n.to_string());
            let rest = wide(a).rem(&wide(b)).unwrap();
            prop_assert_eq!(rest.to_i64(), a.checked_rem(b).or(Some(0)));
        }
    }
}
