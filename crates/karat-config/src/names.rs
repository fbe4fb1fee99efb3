//! Which characters the names of images may have, cloud by cloud: what `{{ clean_resource_name }}`
//! does.

use serde::Serialize;

/// The rules of one cloud for the names of its images.
///
/// A component that has such rules declares them; in its options `{{ clean_resource_name }}` makes
/// any text follow them. In other components the function is not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum NameRules {
    /// Amazon: ASCII letters and digits, blanks and `()[]./-'@_`.
    Amazon,
    /// Azure: ASCII letters and digits, `.`, `_` and `-`, none of these three at the end.
    Azure,
    /// Google: small ASCII letters, digits and `-`. Capitals become small.
    Google,
}

impl NameRules {
    /// The text with a `-` for each byte that may not stand in a name.
    pub fn clean(self, text: &str) -> String {
        let keep = |allowed: fn(u8) -> bool, text: &str| {
            text.bytes().map(|b| if allowed(b) { char::from(b) } else { '-' }).collect::<String>()
        };
        match self {
            Self::Amazon => {
                keep(|b| b.is_ascii_alphanumeric() || b"()[] ./-'@_".contains(&b), text)
            }
            Self::Azure => keep(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b), text)
                .trim_end_matches(['-', '_', '.'])
                .to_owned(),
            Self::Google => keep(
                |b| b.is_ascii_lowercase() || b.is_ascii_digit(),
                &text.chars().flat_map(char::to_lowercase).collect::<String>(),
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_cloud_has_its_own_rules() {
        let text = "My App_1.0 (x86) 2024-01-02T03:04:05Z é.";
        assert_eq!(NameRules::Amazon.clean(text), "My App_1.0 (x86) 2024-01-02T03-04-05Z --.");
        assert_eq!(NameRules::Azure.clean(text), "My-App_1.0--x86--2024-01-02T03-04-05Z");
        assert_eq!(NameRules::Google.clean(text), "my-app-1-0--x86--2024-01-02t03-04-05z----");
        assert_eq!(NameRules::Azure.clean("-._"), "");
        assert_eq!(NameRules::Google.clean("web-1"), "web-1");
    }
}
