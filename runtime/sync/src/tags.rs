//! Which of an image's tags a policy means.

use semver::Version;
use strake_kinds::validate::sync::range;

/// How tags that fit a pattern are ordered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// What the first `*` stands for is a number.
    #[default]
    Numeric,
    /// By its characters: for times as `20251121T2000`.
    Alphabetical,
}

/// How an image's tag is chosen. With both, the first `*` of the pattern stands for the version: `*-alpine`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TagPolicy {
    /// A range of versions.
    pub semver: Option<String>,
    /// A pattern with `*` for any characters.
    pub pattern: Option<String>,
    /// How what fits the pattern is ordered, where it is no version.
    pub order: Order,
}

impl TagPolicy {
    /// In one line, for lock files and messages: another line is another policy.
    pub fn shown(&self) -> String {
        let order = if self.order == Order::Numeric { "numeric" } else { "alphabetical" };
        match (&self.semver, &self.pattern) {
            (Some(range), None) => format!("semver {range}"),
            (Some(range), Some(pattern)) => format!("semver {range} in {pattern}"),
            (None, pattern) => format!("{order} {}", pattern.as_deref().unwrap_or("*")),
        }
    }

    /// Checks it without tags.
    ///
    /// # Errors
    /// What is wrong, for a person.
    pub fn check(&self) -> Result<(), String> {
        match (&self.semver, &self.pattern) {
            (None, None) => return Err("a policy needs `semver`, `tag` or both".to_owned()),
            (Some(_), _) if self.order == Order::Alphabetical => return Err("versions have their own order: leave `order` out".to_owned()),
            (Some(text), _) => drop(range(text)?),
            _ => {}
        }
        match &self.pattern {
            Some(pattern) if !pattern.contains('*') => {
                Err(format!("`{pattern}` has no `*`: it is one tag, which can be written in the manifest; expected a pattern such as main-*"))
            }
            _ => Ok(()),
        }
    }

    /// Whether a tag fits.
    pub fn fits(&self, tag: &str) -> bool {
        self.choose(&[tag.to_owned()]).is_ok()
    }

    /// The highest tag that fits. The same tags in any order give the same answer. Versions before a release (`1.2.0-rc.1`) count only where the range names one;
    /// of tags that are equal (`1.2.0`, `v1.2.0`) it is the first by name.
    ///
    /// # Errors
    /// When none fits: what there is.
    pub fn choose(&self, tags: &[String]) -> Result<String, String> {
        self.check()?;
        let part = |tag: &'_ str| -> Option<String> {
            match &self.pattern {
                None => Some(tag.to_owned()),
                Some(pattern) => star(pattern, tag, self.semver.is_none() && self.order == Order::Numeric).map(str::to_owned),
            }
        };
        let fitting = tags.iter().filter_map(|tag| Some((part(tag)?, tag)));
        let best = match &self.semver {
            Some(text) => {
                let ranges = range(text)?;
                let versions = fitting.filter_map(|(part, tag)| Some((Version::parse(part.strip_prefix('v').unwrap_or(&part)).ok()?, tag)));
                let inside = versions.filter(|(version, _)| ranges.iter().any(|range| range.matches(version)));
                highest(inside)
            }
            None if self.order == Order::Numeric => highest(fitting.map(|(part, tag)| {
                let digits = part.trim_start_matches('0').to_owned();
                ((digits.len(), digits), tag)
            })),
            None => highest(fitting),
        };
        best.cloned().ok_or_else(|| {
            let mut known: Vec<&str> = tags.iter().map(String::as_str).collect();
            known.sort_unstable();
            let (count, list) = (known.len(), known.iter().rev().take(8).copied().collect::<Vec<_>>().join(", "));
            let there = match count {
                0 => "there are none".to_owned(),
                1..=8 => format!("there are {list}"),
                _ => format!("there are {count}, such as {list}"),
            };
            format!("no tag fits `{}`: {there}", self.shown())
        })
    }
}

/// The tag with the highest key; of equal keys the first name.
fn highest<'a, K: Ord>(all: impl Iterator<Item = (K, &'a String)>) -> Option<&'a String> {
    all.max_by(|(a, a_tag), (b, b_tag)| a.cmp(b).then_with(|| b_tag.cmp(a_tag))).map(|(_, tag)| tag)
}

/// What the first `*` of a pattern stands for in a text that fits: the longest that does. `digits` wants a number of it.
fn star<'a>(pattern: &str, text: &'a str, digits: bool) -> Option<&'a str> {
    let (before, after) = pattern.split_once('*')?;
    let rest = text.strip_prefix(before)?;
    let ends = rest.char_indices().map(|(at, _)| at).chain([rest.len()]);
    let mut found = None;
    for end in ends {
        let (part, behind) = rest.split_at(end);
        let good = !part.is_empty() && (!digits || part.bytes().all(|byte| byte.is_ascii_digit()));
        if good && glob(after, behind) {
            found = Some(part);
        }
    }
    found
}

/// Whether a text fits a pattern with any number of `*`. Linear but for going back to the last star.
fn glob(pattern: &str, text: &str) -> bool {
    let mut pieces = pattern.split('*');
    let Some(mut rest) = text.strip_prefix(pieces.next().unwrap_or_default()) else { return false };
    let mut pieces: Vec<&str> = pieces.collect();
    let Some(last) = pieces.pop() else { return rest.is_empty() };
    for piece in pieces {
        let Some(at) = rest.find(piece) else { return false };
        rest = &rest[at + piece.len()..];
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Order, TagPolicy, glob};

    fn policy(semver: &str, pattern: &str, order: Order) -> TagPolicy {
        let given = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
        TagPolicy { semver: given(semver), pattern: given(pattern), order }
    }

    fn tags(words: &str) -> Vec<String> {
        words.split(' ').filter(|word| !word.is_empty()).map(str::to_owned).collect()
    }

    #[test]
    fn the_highest_that_fits_is_chosen() {
        for (semver, pattern, order, there, chosen) in [
            (">=1.2 <2", "", Order::Numeric, "1.2.0 1.10.0 1.9.9 2.0.0 latest", "1.10.0"),
            (">=1.2 <2", "", Order::Numeric, "1.2.0 1.3.0-rc.1 2.0.0-rc.1", "1.2.0"),
            (">=1.3.0-rc.1 <2", "", Order::Numeric, "1.2.0 1.3.0-rc.2 1.3.0-rc.10", "1.3.0-rc.10"),
            ("1.x", "", Order::Numeric, "v1.4.0 1.4.0 1.3", "1.4.0"),
            ("1.x", "*-alpine", Order::Numeric, "1.4.0 1.3.0-alpine 1.2.0-alpine", "1.3.0-alpine"),
            ("", "main-*", Order::Numeric, "main-9 main-10 main-010 main-x dev-99", "main-010"),
            ("", "main-*-*", Order::Numeric, "main-9-fff main-10-0ab main-10", "main-10-0ab"),
            ("", "main-*", Order::Alphabetical, "main-20251121T09 main-20251121T10 main-2", "main-20251121T10"),
            ("", "*", Order::Numeric, "7 20 100000000000000000000000000000 latest", "100000000000000000000000000000"),
        ] {
            let found = policy(semver, pattern, order).choose(&tags(there));
            assert_eq!(found.as_deref(), Ok(chosen), "{semver} {pattern}");
            assert!(policy(semver, pattern, order).fits(chosen));
        }
        assert!(!policy("1.x", "", Order::Numeric).fits("2.0.0"));
    }

    #[test]
    fn what_cannot_be_chosen_is_told() {
        for (semver, pattern, order, there, told) in [
            ("3.x", "", Order::Numeric, "1.0.0 2.0.0", "no tag fits `semver 3.x`: there are 2.0.0, 1.0.0"),
            ("3.x", "", Order::Numeric, "", "there are none"),
            ("one", "", Order::Numeric, "1.0.0", "expected a range of versions"),
            ("", "", Order::Numeric, "1", "needs `semver`, `tag` or both"),
            ("", "main", Order::Numeric, "main", "has no `*`"),
            ("1.x", "", Order::Alphabetical, "1.0.0", "leave `order` out"),
            ("", "main-*", Order::Numeric, "main-", "no tag fits `numeric main-*`"),
        ] {
            let found = policy(semver, pattern, order).choose(&tags(there)).expect_err(told);
            assert!(found.contains(told), "{found}");
        }
    }

    #[test]
    fn stars_stand_for_any_characters() {
        for (pattern, text, fits) in
            [("a", "a", true), ("a", "ab", false), ("*", "", true), ("a*c", "abbc", true), ("*b*d", "abcbd", true), ("a*a", "a", false)]
        {
            assert_eq!(glob(pattern, text), fits, "{pattern} {text}");
        }
    }

    proptest! {
        #[test]
        fn the_order_of_tags_does_not_matter(mut there in prop::collection::vec("(v?[0-2]\\.[0-2]\\.[0-2](-rc)?|main-[0-9]{1,3})", 0..12), which in 0..3_usize) {
            let policy = [policy("*", "", Order::Numeric), policy("", "main-*", Order::Numeric), policy("", "*-*", Order::Alphabetical)][which].clone();
            let first = policy.choose(&there);
            there.reverse();
            prop_assert_eq!(&policy.choose(&there), &first);
            if let Ok(tag) = first {
                prop_assert!(policy.fits(&tag));
                prop_assert_eq!(policy.choose(std::slice::from_ref(&tag)), Ok(tag));
            }
        }
    }
}
