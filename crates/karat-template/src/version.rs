//! Versions and constraints on them, by the rules of HashiCorp's go-version.

use std::cmp::Ordering;

/// A version: `1.2.3`, `v1.2`, `1.2.3-beta.1+build`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    /// At least three numbers; those that are not written are 0.
    segments: Vec<u64>,
    /// How many of them are written.
    written: usize,
    /// What stands after the numbers.
    prerelease: String,
}

/// Conditions on a version that all have to hold: `>= 1.2, < 2.0`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Constraint(Vec<(Operator, Version)>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operator {
    Equal,
    NotEqual,
    Greater,
    GreaterOrEqual,
    Less,
    LessOrEqual,
    /// `~>`: all but the last number that is written stay the same.
    About,
}

/// Longer names before those that they begin with.
const OPERATORS: [(&str, Operator); 8] = [
    ("!=", Operator::NotEqual),
    (">=", Operator::GreaterOrEqual),
    ("<=", Operator::LessOrEqual),
    ("~>", Operator::About),
    ("=", Operator::Equal),
    (">", Operator::Greater),
    ("<", Operator::Less),
    ("", Operator::Equal),
];

impl Version {
    /// Reads a version.
    ///
    /// # Errors
    /// What is wrong with it, without a full stop.
    pub fn parse(text: &str) -> Result<Self, String> {
        let fail = || format!("\"{text}\" is no version");
        let rest = text.strip_prefix('v').unwrap_or(text);
        let rest = match rest.split_once('+') {
            Some((rest, build)) if is_label(build) => rest,
            Some(_) => return Err(fail()),
            None => rest,
        };
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let (core, label) = rest.split_at(end);
        let prerelease = label.strip_prefix('-').unwrap_or(label);
        if !label.is_empty() && !is_label(prerelease) {
            return Err(fail());
        }
        let mut segments = Vec::new();
        for part in core.split('.') {
            segments.push(part.parse::<u64>().map_err(|_| fail())?);
        }
        let written = segments.len();
        segments.resize(written.max(3), 0);
        Ok(Self { segments, written, prerelease: prerelease.to_owned() })
    }
}

fn is_label(text: &str) -> bool {
    let part = |part: &str| {
        !part.is_empty() && part.chars().all(|c| c.is_ascii_alphanumeric() || "-~".contains(c))
    };
    text.split('.').all(part)
}

impl Ord for Version {
    fn cmp(&self, other: &Self) -> Ordering {
        let count = self.segments.len().max(other.segments.len());
        let at = |version: &Self, i: usize| version.segments.get(i).copied().unwrap_or(0);
        let numbers =
            (0..count).map(|i| at(self, i).cmp(&at(other, i))).find(|order| order.is_ne());
        numbers.unwrap_or_else(|| match (&*self.prerelease, &*other.prerelease) {
            (a, b) if a == b => Ordering::Equal,
            ("", _) => Ordering::Greater,
            (_, "") => Ordering::Less,
            (a, b) => compare_labels(a, b),
        })
    }
}

impl PartialOrd for Version {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// Numbers by their values and before texts; a longer label after its beginning.
fn compare_labels(a: &str, b: &str) -> Ordering {
    let (mut a, mut b) = (a.split('.'), b.split('.'));
    loop {
        let order = match (a.next(), b.next()) {
            (None, None) => return Ordering::Equal,
            (None, Some(_)) => Ordering::Less,
            (Some(_), None) => Ordering::Greater,
            (Some(a), Some(b)) => match (a.parse::<u64>(), b.parse::<u64>()) {
                (Ok(a), Ok(b)) => a.cmp(&b),
                (Ok(_), Err(_)) => Ordering::Less,
                (Err(_), Ok(_)) => Ordering::Greater,
                (Err(_), Err(_)) => a.cmp(b),
            },
        };
        if order.is_ne() {
            return order;
        }
    }
}

impl Constraint {
    /// Reads conditions, separated by commas.
    ///
    /// # Errors
    /// What is wrong with them, without a full stop.
    pub fn parse(text: &str) -> Result<Self, String> {
        text.split(',').map(one).collect::<Result<_, _>>().map(Self)
    }

    /// Whether a version meets all conditions.
    pub fn is_met(&self, version: &Version) -> bool {
        self.0.iter().all(|(operator, wanted)| operator.holds(version, wanted))
    }

    /// Whether a condition names a version that was not released: `>= 1.0.0-beta`.
    pub fn has_prerelease(&self) -> bool {
        self.0.iter().any(|(_, version)| !version.prerelease.is_empty())
    }
}

fn one(text: &str) -> Result<(Operator, Version), String> {
    let text = text.trim();
    let (name, operator) = OPERATORS
        .iter()
        .find(|(name, _)| text.starts_with(name))
        .expect("every text begins with nothing");
    let wanted = text[name.len()..].trim();
    if let Some(c) = wanted.chars().next().filter(|c| "=!<>~".contains(*c)) {
        return Err(format!("\"{name}{c}\" is no operator"));
    }
    Ok((*operator, Version::parse(wanted)?))
}

impl Operator {
    fn holds(self, version: &Version, wanted: &Version) -> bool {
        match self {
            Self::Equal => version == wanted || version.cmp(wanted).is_eq(),
            Self::NotEqual => version.cmp(wanted).is_ne(),
            Self::Greater => version > wanted,
            Self::GreaterOrEqual => version >= wanted,
            Self::Less => version < wanted,
            Self::LessOrEqual => version <= wanted,
            Self::About => {
                let fixed = wanted.written.saturating_sub(1);
                let same = (0..fixed).all(|i| version.segments.get(i) == wanted.segments.get(i));
                let last = wanted.segments.len() - 1;
                same && version >= wanted
                    && wanted.prerelease.is_empty() == version.prerelease.is_empty()
                    && version.segments.get(last).is_some_and(|n| *n >= wanted.segments[last])
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn met(version: &str, constraint: &str) -> bool {
        Constraint::parse(constraint).unwrap().is_met(&Version::parse(version).unwrap())
    }

    #[test]
    fn constraints() {
        for (constraint, is_met) in [
            (">= 1.8.0", true),
            ("~> 1.9", true),
            ("~> 1.15.0", false),
            ("~> 1", true),
            ("~>0", true),
            (">= 1.7, < 1.16", false),
            ("1.16.0", true),
            ("= 1.16", true),
            ("!= 1.16.0", false),
            ("> 2", false),
            (">=v1.2.3", true),
            ("> 1.16.0-beta", true),
            ("~> 1.16.0-beta", false),
        ] {
            assert_eq!(met("1.16.0", constraint), is_met, "{constraint}");
        }
        assert!(met("1.16.0-beta.2", "< 1.16.0, > 1.16.0-beta.1"));
    }

    #[test]
    fn texts_that_are_no_constraints() {
        for text in [
            "=> 1",
            ">= x",
            "",
            ">= 1,",
            "1..2",
            "1.2.",
            ">>1",
            "about 1.9",
            "1 2",
            "99999999999999999999",
        ] {
            assert!(Constraint::parse(text).is_err(), "{text}");
        }
        assert!(Constraint::parse(">= 1.0.0-beta").unwrap().has_prerelease());
        assert!(!Constraint::parse(">= 1.0.0+build").unwrap().has_prerelease());
    }
}
