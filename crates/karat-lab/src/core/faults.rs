//! Failures on request.
//!
//! A rule names the calls it touches and what becomes of them. Which calls of a share are hit is
//! counted, not drawn: of 20 % each fifth, so that a rehearsal can be repeated.

use globset::{Glob, GlobMatcher};
use serde::{Deserialize, Serialize};

use super::ids;

/// What becomes of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Refused for being one too many.
    Throttle,
    /// Refused with a code.
    Error,
    /// Answered late.
    Latency,
    /// Done, and the connection closed without an answer.
    LostResponse,
    /// What was made less than the delay ago is not seen by calls that describe.
    Stale,
    /// What the call makes never leaves its first state.
    Stuck,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Throttle, Self::Error, Self::Latency, Self::LostResponse, Self::Stale, Self::Stuck];

    /// As it is written.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Throttle => "throttle",
            Self::Error => "error",
            Self::Latency => "latency",
            Self::LostResponse => "lost-response",
            Self::Stale => "stale",
            Self::Stuck => "stuck",
        }
    }
}

/// What befalls an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Blow {
    /// Its spot capacity is wanted back: it is told, and terminated after the delay.
    SpotInterruption,
    /// It is terminated at once, as when its host fails.
    InstanceLoss,
    /// Its connections end, those of its sessions too, and none begins for the delay.
    SshCut,
    /// Its temporary folders take no more.
    FullDisk,
}

/// Asks for something to befall instances.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Strike {
    /// What.
    pub blow: Blow,
    /// Which instance; all that run without.
    #[serde(default)]
    pub instance: Option<String>,
    /// How long, in milliseconds.
    #[serde(default)]
    pub delay_ms: Option<u64>,
}

/// A fault that was asked for.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// Names it, to remove it.
    #[serde(default)]
    pub id: String,
    /// What becomes of the calls.
    pub kind: Kind,
    /// A glob over calls, as `ec2:RunInstances`; without a colon over the part behind it.
    #[serde(default = "every_call")]
    pub calls: String,
    /// Which part of the calls, more than 0 and at most 1.
    #[serde(default = "all")]
    pub share: f64,
    /// After how many hits it ends; never without.
    #[serde(default)]
    pub count: Option<u64>,
    /// How long, for `latency` and `stale`.
    #[serde(default)]
    pub delay_ms: u64,
    /// The code of an `error`.
    #[serde(default)]
    pub code: Option<String>,
    /// How many calls it has hit.
    #[serde(default)]
    pub hits: u64,
    /// The part of a hit that has come together.
    #[serde(default)]
    owed: f64,
}

fn every_call() -> String {
    "*".into()
}

fn all() -> f64 {
    1.0
}

/// All rules.
#[derive(Debug, Default)]
pub struct Faults {
    rules: Vec<(GlobMatcher, Rule)>,
}

impl Faults {
    /// Adds a rule and gives its id.
    ///
    /// # Errors
    /// When the rule says what cannot be.
    pub fn add(&mut self, mut rule: Rule) -> Result<String, String> {
        if !(rule.share > 0.0 && rule.share <= 1.0) {
            return Err(format!("a share of {} is not possible: give one up to 1", rule.share));
        }
        if rule.kind == Kind::Error && rule.code.is_none() {
            return Err("an error needs its code, such as InternalError".into());
        }
        if matches!(rule.kind, Kind::Latency | Kind::Stale) && rule.delay_ms == 0 {
            return Err(format!("\"{}\" needs a delay", rule.kind.as_str()));
        }
        let pattern =
            if rule.calls.contains(':') { rule.calls.clone() } else { format!("*:{}", rule.calls) };
        let glob = Glob::new(&pattern)
            .map_err(|e| format!("\"{}\" is no pattern: {}", rule.calls, e.kind()))?;
        if rule.id.is_empty() {
            rule.id = format!("fault-{}", &ids::hex(&ids::random::<4>()));
        }
        let id = rule.id.clone();
        self.rules.push((glob.compile_matcher(), rule));
        Ok(id)
    }

    /// Removes a rule, or all.
    pub fn clear(&mut self, id: Option<&str>) -> usize {
        let before = self.rules.len();
        self.rules.retain(|(_, rule)| id.is_some_and(|id| rule.id != id));
        before - self.rules.len()
    }

    /// All rules.
    pub fn rules(&self) -> impl Iterator<Item = &Rule> {
        self.rules.iter().map(|(_, rule)| rule)
    }

    /// The rules of a kind that hit this call; each hit counts.
    pub fn hit(&mut self, kind: Kind, call: &str) -> Vec<Rule> {
        let mut hits = Vec::new();
        for (glob, rule) in &mut self.rules {
            if rule.kind != kind || rule.count == Some(0) || !glob.is_match(call) {
                continue;
            }
            rule.owed += rule.share;
            // Shares such as 0.1 do not add up exactly.
            if rule.owed < 1.0 - 1e-9 {
                continue;
            }
            rule.owed -= 1.0;
            rule.hits += 1;
            rule.count = rule.count.map(|left| left - 1);
            hits.push(rule.clone());
        }
        hits
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(kind: Kind, calls: &str, share: f64) -> Rule {
        serde_json::from_value(serde_json::json!({
            "kind": kind, "calls": calls, "share": share, "delay_ms": 1, "code": "X",
        }))
        .unwrap()
    }

    #[test]
    fn a_share_is_spread_evenly_and_a_count_ends() {
        let mut faults = Faults::default();
        faults.add(rule(Kind::Throttle, "Run*", 0.2)).unwrap();
        let hits = |faults: &mut Faults| {
            (0..10)
                .filter(|_| !faults.hit(Kind::Throttle, "ec2:RunInstances").is_empty())
                .collect::<Vec<_>>()
        };
        assert_eq!(hits(&mut faults), [4, 9]);
        assert!(faults.hit(Kind::Throttle, "ec2:DescribeImages").is_empty());
        assert!(faults.hit(Kind::Latency, "ec2:RunInstances").is_empty());
        assert_eq!(faults.clear(None), 1);

        let mut once = rule(Kind::Error, "ec2:*", 1.0);
        once.count = Some(1);
        let id = faults.add(once).unwrap();
        assert_eq!(faults.hit(Kind::Error, "ec2:A").len(), 1);
        assert!(faults.hit(Kind::Error, "ec2:A").is_empty());
        assert_eq!(faults.rules().next().unwrap().hits, 1);
        assert_eq!(faults.clear(Some("other")), 0);
        assert_eq!(faults.clear(Some(&id)), 1);
    }

    #[test]
    fn impossible_rules_are_refused() {
        let mut faults = Faults::default();
        assert!(faults.add(rule(Kind::Throttle, "*", 1.5)).is_err());
        assert!(faults.add(rule(Kind::Throttle, "[", 1.0)).unwrap_err().contains("no pattern"));
        let mut nameless = rule(Kind::Error, "*", 1.0);
        nameless.code = None;
        assert!(faults.add(nameless).is_err());
    }
}
