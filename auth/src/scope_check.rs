//! Whether the scope check is on: a decision of configuration, taken once, at start.

/// Whether users are kept within their own repositories.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum ScopeCheck {
    /// User `u` may name `u` and `u/…`.
    #[default]
    Strict,
    /// Everybody may name everything: for an installation with a single tenant.
    Off,
}

/// The settings about the scope check contradict each other.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct InvalidScopeCheck(String);

impl ScopeCheck {
    /// Decides from `STRICT_USER_CHECK`, the variable of the OpenServerless deployer, and from
    /// `unchecked`, Kiln's own switch; `setting` is that switch's name in the configuration.
    ///
    /// The variable alone is not enough: there it skipped a comparison in front of one registry
    /// path, here it would open every repository that Kiln's own push credentials can write.
    ///
    /// # Errors
    /// When the variable switches the check off and Kiln's own setting doesn't, or when the
    /// variable asks for the check and Kiln's own setting switches it off.
    pub fn decide(strict_user_check: Option<&str>, unchecked: bool, setting: &str) -> Result<Self, InvalidScopeCheck> {
        match (strict_user_check.map(asks_for_the_check), unchecked) {
            (None | Some(true), false) => Ok(Self::Strict),
            (None | Some(false), true) => Ok(Self::Off),
            (Some(false), false) => Err(InvalidScopeCheck(format!(
                "STRICT_USER_CHECK switches the scope check off, which lets every user overwrite every image; \
                 set {setting} = true as well if that is meant, or remove STRICT_USER_CHECK"
            ))),
            (Some(true), true) => Err(InvalidScopeCheck(format!(
                "STRICT_USER_CHECK asks for the scope check and {setting} = true switches it off; remove one of them"
            ))),
        }
    }
}

/// As the deployer reads its variable: everything but these four, in any case, means "check".
fn asks_for_the_check(value: &str) -> bool {
    !["false", "0", "no", "off"].iter().any(|off| off.eq_ignore_ascii_case(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_check_goes_off_only_by_kilns_own_setting() {
        for (variable, unchecked, decided) in [
            (None, false, Some(ScopeCheck::Strict)),
            (Some("true"), false, Some(ScopeCheck::Strict)),
            (Some(""), false, Some(ScopeCheck::Strict)),
            (Some("nonsense"), false, Some(ScopeCheck::Strict)),
            (None, true, Some(ScopeCheck::Off)),
            (Some("false"), true, Some(ScopeCheck::Off)),
            (Some("OFF"), true, Some(ScopeCheck::Off)),
            (Some("false"), false, None),
            (Some("0"), false, None),
            (Some("No"), false, None),
            (Some("oFf"), false, None),
            (Some("true"), true, None),
        ] {
            assert_eq!(ScopeCheck::decide(variable, unchecked, "s").ok(), decided, "{variable:?} {unchecked}");
        }
    }

    #[test]
    fn the_refusal_names_both_settings() {
        let refusal = ScopeCheck::decide(Some("false"), false, "unchecked_scope").err().map(|e| e.to_string());
        let text = refusal.unwrap_or_default();
        assert!(text.contains("STRICT_USER_CHECK") && text.contains("unchecked_scope = true"), "{text}");
    }
}
