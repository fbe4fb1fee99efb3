//! Policies of IAM as documents: whether one allows an action on a resource.

use std::collections::BTreeMap;

use serde_json::Value;

/// What is known of a request besides action and resource: names of condition keys in lower case,
/// and their values.
pub(crate) type Keys = BTreeMap<String, Vec<String>>;

/// What is asked for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Question<'a> {
    /// Such as `ec2:RunInstances`.
    pub(crate) action: &'a str,
    /// An ARN, or `*` for calls that are about no resource.
    pub(crate) resource: &'a str,
    pub(crate) keys: &'a Keys,
}

/// What policies say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Allowed,
    /// A statement forbids it, whatever others say.
    Denied,
    /// Nothing allows it.
    Silent,
}

/// What some documents say together.
pub(crate) fn verdict(documents: &[Value], question: Question<'_>) -> Verdict {
    let mut found = Verdict::Silent;
    for statement in documents.iter().flat_map(|d| list(&d["Statement"])) {
        if !speaks_of(statement, question) {
            continue;
        }
        if statement["Effect"] == "Deny" {
            return Verdict::Denied;
        }
        found = Verdict::Allowed;
    }
    found
}

/// A list, or one that stands for itself.
fn list(value: &Value) -> Vec<&Value> {
    match value {
        Value::Null => Vec::new(),
        Value::Array(all) => all.iter().collect(),
        one => vec![one],
    }
}

/// Texts of a value; booleans and numbers as they are written.
fn texts(value: &Value) -> Vec<String> {
    let text = |value: &Value| match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    list(value).into_iter().map(text).collect()
}

fn speaks_of(statement: &Value, question: Question<'_>) -> bool {
    let action = |patterns: &Value| {
        let asked = question.action.to_ascii_lowercase();
        texts(patterns).iter().any(|pattern| fits(&pattern.to_ascii_lowercase(), &asked))
    };
    let resource = |patterns: &Value| {
        let filled = |pattern: &String| filled(pattern, question.keys);
        texts(patterns).iter().map(filled).any(|pattern| fits(&pattern, question.resource))
    };
    let either = |name: &str, other: &str, holds: &dyn Fn(&Value) -> bool| match (
        statement.get(name),
        statement.get(other),
    ) {
        (Some(patterns), _) => holds(patterns),
        (None, Some(patterns)) => !holds(patterns),
        (None, None) => false,
    };
    either("Action", "NotAction", &action)
        && either("Resource", "NotResource", &resource)
        && statement["Condition"].as_object().is_none_or(|conditions| {
            conditions.iter().all(|(operator, about)| {
                about.as_object().is_some_and(|about| {
                    about.iter().all(|(key, wanted)| holds(operator, key, wanted, question.keys))
                })
            })
        })
}

/// A text with what stands for a condition key in it: `${aws:userid}`.
fn filled(text: &str, keys: &Keys) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("${") {
        let Some((name, beyond)) = after.split_once('}') else { break };
        out.push_str(before);
        let name = name.split(',').next().unwrap_or_default().trim().to_ascii_lowercase();
        match keys.get(&name).and_then(|values| values.first()) {
            Some(value) => out.push_str(value),
            // What is not known fits nothing.
            None => out.push('\0'),
        }
        rest = beyond;
    }
    out + rest
}

/// Whether a condition holds for a key.
fn holds(operator: &str, key: &str, wanted: &Value, keys: &Keys) -> bool {
    let given = keys.get(&key.to_ascii_lowercase());
    let wanted: Vec<String> = texts(wanted).iter().map(|text| filled(text, keys)).collect();
    let (of, operator) = match operator.split_once(':') {
        Some((of, operator)) => (Some(of), operator),
        None => (None, operator),
    };
    let (operator, if_exists) = match operator.strip_suffix("IfExists") {
        Some(operator) => (operator, true),
        None => (operator, false),
    };
    if operator == "Null" {
        return wanted.iter().any(|text| (text == "true") == given.is_none());
    }
    let (negated, operator) = match operator {
        "StringNotEquals" => (true, "StringEquals"),
        "StringNotEqualsIgnoreCase" => (true, "StringEqualsIgnoreCase"),
        "StringNotLike" => (true, "StringLike"),
        "ArnNotEquals" | "ArnNotLike" => (true, "StringLike"),
        "ArnEquals" | "ArnLike" => (false, "StringLike"),
        other => (false, other),
    };
    let Some(given) = given else { return if_exists || negated || of == Some("ForAllValues") };
    let one = |value: &String| {
        let any = |same: &dyn Fn(&String) -> bool| wanted.iter().any(same);
        match operator {
            "StringEquals" => any(&|text| text == value),
            "StringEqualsIgnoreCase" | "Bool" => any(&|text| text.eq_ignore_ascii_case(value)),
            "StringLike" => any(&|text| fits(text, value)),
            // What the lab does not know holds for nothing.
            _ => false,
        }
    };
    match (of, negated) {
        (Some("ForAllValues"), false) => given.iter().all(one),
        (Some("ForAllValues"), true) => given.iter().all(|value| !one(value)),
        (_, true) => !given.iter().any(one),
        (_, false) => given.iter().any(one),
    }
}

/// Whether a text fits a pattern with `*` for any characters and `?` for any one.
pub(crate) fn fits(pattern: &str, text: &str) -> bool {
    let (pattern, text): (Vec<char>, Vec<char>) =
        (pattern.chars().collect(), text.chars().collect());
    let (mut p, mut t) = (0, 0);
    // Where the last `*` stands, and how far it reached.
    let mut back: Option<(usize, usize)> = None;
    while t < text.len() {
        match pattern.get(p) {
            Some('*') => {
                back = Some((p, t));
                p += 1;
            }
            Some(c) if *c == '?' || *c == text[t] => {
                p += 1;
                t += 1;
            }
            _ => {
                let Some((star, reached)) = back else { return false };
                back = Some((star, reached + 1));
                (p, t) = (star + 1, reached + 1);
            }
        }
    }
    pattern[p..].iter().all(|c| *c == '*')
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn says(statements: Value, action: &str, resource: &str, keys: &[(&str, &str)]) -> Verdict {
        let keys: Keys =
            keys.iter().map(|(k, v)| (k.to_ascii_lowercase(), vec![(*v).to_owned()])).collect();
        let document = json!({ "Version": "2012-10-17", "Statement": statements });
        verdict(&[document], Question { action, resource, keys: &keys })
    }

    #[test]
    fn patterns_fit_as_iam_has_it() {
        for (pattern, text, wanted) in [
            ("*", "", true),
            ("ec2:Run*", "ec2:RunInstances", true),
            ("ec2:*Instances", "ec2:RunInstances", true),
            ("a?c", "abc", true),
            ("a?c", "ac", false),
            ("*ab*ab", "abcab", true),
            ("arn:aws:ec2:*:*:image/*", "arn:aws:ec2:us-east-1::image/ami-1", true),
            ("arn:aws:ec2:*:*:image/*", "arn:aws:ec2:us-east-1::snapshot/s", false),
            ("", "x", false),
        ] {
            assert_eq!(fits(pattern, text), wanted, "{pattern} {text}");
        }
    }

    #[test]
    fn statements_allow_deny_and_keep_silent() {
        let allow = |more: Value| {
            let mut statement = json!({ "Effect": "Allow", "Action": "ec2:*", "Resource": "*" });
            statement.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            statement
        };
        let ask = |statements: Value| {
            says(statements, "ec2:RunInstances", "arn:x", &[("aws:userid", "me")])
        };
        assert_eq!(ask(allow(json!({}))), Verdict::Allowed);
        assert_eq!(ask(allow(json!({ "Action": ["EC2:runinstances"] }))), Verdict::Allowed);
        assert_eq!(ask(allow(json!({ "Action": "ec2:Stop*" }))), Verdict::Silent);
        assert_eq!(ask(allow(json!({ "Resource": "arn:y" }))), Verdict::Silent);
        assert_eq!(ask(json!([])), Verdict::Silent);
        let deny = json!({ "Effect": "Deny", "NotAction": "s3:*", "Resource": "arn:?" });
        assert_eq!(ask(json!([allow(json!({})), deny])), Verdict::Denied);
        let without_action = json!({ "Effect": "Allow", "Resource": "*" });
        assert_eq!(ask(without_action), Verdict::Silent);
        let own = |resource: &str| {
            says(
                allow(json!({ "Resource": "arn:session/${aws:userid}-*" })),
                "ec2:X",
                resource,
                &[("aws:userid", "me")],
            )
        };
        assert_eq!(own("arn:session/me-1"), Verdict::Allowed);
        assert_eq!(own("arn:session/you-1"), Verdict::Silent);
    }

    #[test]
    fn conditions_look_at_what_is_known() {
        let ask = |condition: Value, keys: &[(&str, &str)]| {
            let statement = json!({
                "Effect": "Allow", "Action": "*", "Resource": "*", "Condition": condition,
            });
            says(statement, "a:B", "*", keys) == Verdict::Allowed
        };
        let tag = ("aws:ResourceTag/karat:token", "t-1");
        let like = json!({ "StringLike": { "aws:ResourceTag/karat:token": "*" } });
        assert!(ask(like.clone(), &[tag]));
        assert!(!ask(like, &[]));
        let equals =
            json!({ "StringEquals": { "ec2:CreateAction": ["RunInstances", "CopyImage"] } });
        assert!(ask(equals.clone(), &[("ec2:CreateAction", "CopyImage")]));
        assert!(!ask(equals, &[("ec2:CreateAction", "CreateImage")]));
        let not = json!({ "StringNotEquals": { "a:k": "x" } });
        assert!(ask(not.clone(), &[]));
        assert!(!ask(not, &[("a:k", "x")]));
        let exists = json!({ "StringEqualsIfExists": { "a:k": "x" } });
        assert!(ask(exists.clone(), &[]) && !ask(exists, &[("a:k", "y")]));
        let null = json!({ "Null": { "a:k": "true" } });
        assert!(ask(null.clone(), &[]) && !ask(null, &[("a:k", "y")]));
        assert!(ask(json!({ "Bool": { "a:k": true } }), &[("a:k", "true")]));
        assert!(!ask(json!({ "DateLessThan": { "a:k": "2020" } }), &[("a:k", "2019")]));
    }
}
