//! Floats as decimal text, in the forms of C's `%e`, `%f`, `%g`.

use dashu_int::UBig;

use crate::float::{Float, Kind};

/// The digits `0.d1d2d3… * 10^exp`, without trailing zeros; none for zero.
#[derive(Clone, Debug)]
pub(crate) struct Decimal {
    digits: Vec<u8>,
    exp: i64,
}

impl Decimal {
    /// The exact value of `mant * 2^exp`.
    fn exact(mant: &UBig, exp: i64) -> Self {
        let shift = usize::try_from(exp.unsigned_abs()).unwrap_or(0);
        let (text, point) = if exp >= 0 {
            ((mant << shift).to_string(), 0)
        } else {
            ((mant * UBig::from(5u8).pow(shift)).to_string(), exp)
        };
        let mut digits = text.into_bytes();
        let exp = digits.len() as i64 + point;
        trim(&mut digits);
        Self { digits, exp }
    }

    pub(crate) fn of(float: &Float) -> Self {
        match &float.kind {
            Kind::Finite { mant, exp } => Self::exact(mant, *exp),
            _ => Self { digits: Vec::new(), exp: 0 },
        }
    }

    /// The shortest digits that read back as `float` at its precision.
    pub(crate) fn shortest(float: &Float) -> Self {
        let Kind::Finite { mant, exp } = &float.kind else { return Self::of(float) };
        let mut this = Self::exact(mant, *exp);
        let bits = usize::from(float.prec) + 1;
        // One bit more than the precision holds: a step up or down is half a unit.
        let shift = bits.saturating_sub(mant.len_bits());
        let wide = mant << shift;
        let exp = exp - shift as i64;
        let inclusive = shift >= 2 || !wide.bit_at(1);
        let lower = Self::exact(&(&wide - 1u8), exp);
        let upper = Self::exact(&(&wide + 1u8), exp);
        for i in 0..this.digits.len() {
            let digit = this.digits[i];
            let (low, high) = (lower.at(i), upper.at(i));
            let down = low != digit || inclusive && i + 1 == lower.digits.len();
            let up = digit != high && (inclusive || digit + 1 < high || i + 1 < upper.digits.len());
            match (down, up) {
                (true, true) => this.round(i + 1),
                (true, false) => this.round_down(i + 1),
                (false, true) => this.round_up(i + 1),
                (false, false) => continue,
            }
            break;
        }
        this
    }

    fn at(&self, i: usize) -> u8 {
        self.digits.get(i).copied().unwrap_or(b'0')
    }

    /// Keeps `n` digits, rounding half to even.
    fn round(&mut self, n: usize) {
        if n >= self.digits.len() {
            return;
        }
        let up = if self.digits[n] == b'5' && n + 1 == self.digits.len() {
            n > 0 && (self.digits[n - 1] - b'0') & 1 != 0
        } else {
            self.digits[n] >= b'5'
        };
        if up { self.round_up(n) } else { self.round_down(n) }
    }

    fn round_down(&mut self, n: usize) {
        if n < self.digits.len() {
            self.digits.truncate(n);
            trim(&mut self.digits);
            if self.digits.is_empty() {
                self.exp = 0;
            }
        }
    }

    fn round_up(&mut self, n: usize) {
        if n >= self.digits.len() {
            return;
        }
        let kept = self.digits[..n].iter().rposition(|digit| *digit < b'9');
        match kept {
            Some(i) => {
                self.digits[i] += 1;
                self.digits.truncate(i + 1);
            }
            None => {
                self.digits = vec![b'1'];
                self.exp += 1;
            }
        }
    }

    fn scientific(&self, verb: char, places: usize, out: &mut String) {
        out.push(char::from(self.at(0)));
        if places > 0 {
            out.push('.');
            out.extend((1..=places).map(|i| char::from(self.at(i))));
        }
        let exp = if self.digits.is_empty() { 0 } else { self.exp - 1 };
        out.push(verb);
        out.push(if exp < 0 { '-' } else { '+' });
        let digits = exp.unsigned_abs().to_string();
        if digits.len() < 2 {
            out.push('0');
        }
        out.push_str(&digits);
    }

    fn plain(&self, places: usize, out: &mut String) {
        if self.exp > 0 {
            out.extend((0..usize::try_from(self.exp).unwrap_or(0)).map(|i| char::from(self.at(i))));
        } else {
            out.push('0');
        }
        if places > 0 {
            out.push('.');
            out.extend(
                (0..places as i64)
                    .map(|i| usize::try_from(self.exp + i).map_or('0', |i| char::from(self.at(i)))),
            );
        }
    }
}

/// `float` as C's printf writes it with the verb `e`, `E`, `f`, `g` or `G`; `places` as there,
/// `None` for the fewest digits that read back the same.
pub(crate) fn format(float: &Float, verb: char, places: Option<usize>) -> String {
    let mut out = String::new();
    if float.neg {
        out.push('-');
    }
    if matches!(float.kind, Kind::Infinite) {
        if !float.neg {
            out.push('+');
        }
        out.push_str("Inf");
        return out;
    }
    let lower = verb.to_ascii_lowercase();
    let given = places.is_some();
    let mut decimal;
    let places = match places {
        None => {
            decimal = Decimal::shortest(float);
            match lower {
                'e' => decimal.digits.len().saturating_sub(1),
                'f' => usize::try_from(decimal.digits.len() as i64 - decimal.exp).unwrap_or(0),
                _ => decimal.digits.len(),
            }
        }
        Some(places) => {
            decimal = Decimal::of(float);
            match lower {
                'e' => decimal.round(places + 1),
                'f' => match usize::try_from(decimal.exp + places as i64) {
                    Ok(n) => decimal.round(n),
                    Err(_) => decimal = Decimal { digits: Vec::new(), exp: 0 },
                },
                _ => decimal.round(places.max(1)),
            }
            if lower == 'g' { places.max(1) } else { places }
        }
    };
    match lower {
        'e' => decimal.scientific(verb, places, &mut out),
        'f' => decimal.plain(places, &mut out),
        _ => general(&decimal, verb, places, given, &mut out),
    }
    out
}

/// `0.digits * 10^exp` as C's `%g` with all its digits.
pub(crate) fn general_text(neg: bool, digits: Vec<u8>, exp: i64) -> String {
    let mut out = if neg { "-".to_owned() } else { String::new() };
    let places = digits.len();
    general(&Decimal { digits, exp }, 'g', places, false, &mut out);
    out
}

// `given`: whether `%g` was asked for a number of places; only then is that the threshold.
fn general(decimal: &Decimal, verb: char, places: usize, given: bool, out: &mut String) {
    let len = decimal.digits.len();
    let mut threshold = places as i64;
    if threshold > len as i64 && len as i64 >= decimal.exp {
        threshold = len as i64;
    }
    if !given {
        threshold = 6;
    }
    let exp = decimal.exp - 1;
    if exp < -4 || exp >= threshold {
        let verb = if verb.is_ascii_uppercase() { 'E' } else { 'e' };
        decimal.scientific(verb, places.min(len).saturating_sub(1), out);
    } else {
        decimal.plain(usize::try_from(len as i64 - decimal.exp).unwrap_or(0), out);
    }
}

fn trim(digits: &mut Vec<u8>) {
    while digits.last() == Some(&b'0') {
        digits.pop();
    }
}

trait Bits {
    fn len_bits(&self) -> usize;
    fn bit_at(&self, i: usize) -> bool;
}

impl Bits for UBig {
    fn len_bits(&self) -> usize {
        dashu_int::ops::BitTest::bit_len(self)
    }

    fn bit_at(&self, i: usize) -> bool {
        dashu_int::ops::BitTest::bit(self, i)
    }
}
