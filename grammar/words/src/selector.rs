//! Label and field selectors as the Kubernetes API takes them in queries.

use std::collections::BTreeMap;
use std::fmt;

use pest::Parser as _;
use pest::iterators::Pair;

use crate::WordError;

const LABELS: &str = "a label selector";
const LABELS_SHAPE: &str = "terms like a=b, a!=b, a in (b,c), a notin (b), a, !a joined by commas";
const FIELDS: &str = "a field selector";
const FIELDS_SHAPE: &str = "terms like metadata.name=a or status.phase!=Running joined by commas";

#[derive(pest_derive::Parser)]
#[grammar = "selector.pest"]
struct Grammar;

/// Requirements that must all hold. Without any, everything matches.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LabelSelector {
    /// The requirements in the order written.
    pub requirements: Vec<Requirement>,
}

/// One term of a label selector.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Requirement {
    /// The label's key.
    pub key: String,
    /// How it is tested.
    pub operator: Operator,
    /// Against what; empty for `Exists` and `DoesNotExist`.
    pub values: Vec<String>,
}

/// How a label is tested.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operator {
    /// Present with one of the values (`=`, `==`, `in`).
    In,
    /// Absent, or with none of the values (`!=`, `notin`).
    NotIn,
    /// Present.
    Exists,
    /// Absent.
    DoesNotExist,
    /// Present and a greater integer.
    GreaterThan,
    /// Present and a lesser integer.
    LessThan,
}

impl LabelSelector {
    /// Reads a selector; blank text selects everything.
    ///
    /// # Errors
    /// When the text does not have the shape, or a key or value is not a valid label.
    pub fn parse(text: &str) -> Result<Self, WordError> {
        let pairs = Grammar::parse(Rule::labels, text).map_err(|error| WordError::from_pest(LABELS, text, &error, LABELS_SHAPE))?;
        let terms = pairs.flat_map(Pair::into_inner).filter(|pair| pair.as_rule() == Rule::requirement).flat_map(Pair::into_inner);
        let requirements = terms.map(|term| requirement(text, term)).collect::<Result<_, _>>()?;
        Ok(LabelSelector { requirements })
    }

    /// Whether all requirements hold for these labels.
    pub fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        self.matches_with(|key| labels.get(key).map(String::as_str))
    }

    /// Whether all requirements hold for labels that `get` looks up.
    pub fn matches_with<'a>(&self, get: impl Fn(&str) -> Option<&'a str>) -> bool {
        self.requirements.iter().all(|requirement| requirement.holds(get(&requirement.key)))
    }
}

impl Requirement {
    /// Whether it holds for the label's value.
    pub fn holds(&self, value: Option<&str>) -> bool {
        let listed = |value: &str| self.values.iter().any(|wanted| wanted == value);
        match self.operator {
            Operator::In => value.is_some_and(listed),
            Operator::NotIn => !value.is_some_and(listed),
            Operator::Exists => value.is_some(),
            Operator::DoesNotExist => value.is_none(),
            Operator::GreaterThan | Operator::LessThan => {
                let limit = self.values.first().and_then(|limit| limit.parse::<i64>().ok());
                let number = value.and_then(|value| value.parse::<i64>().ok());
                let order = number.zip(limit).map(|(number, limit)| number.cmp(&limit));
                order == Some(if self.operator == Operator::GreaterThan { std::cmp::Ordering::Greater } else { std::cmp::Ordering::Less })
            }
        }
    }
}

fn requirement(text: &str, term: Pair<'_, Rule>) -> Result<Requirement, WordError> {
    let mut operator = match term.as_rule() {
        Rule::absent => Operator::DoesNotExist,
        Rule::present => Operator::Exists,
        _ => Operator::In,
    };
    let (mut key, mut values) = (String::new(), Vec::new());
    for part in term.into_inner() {
        let at = part.as_span().start();
        let wrong = |reason: String| WordError::new(LABELS, text, at, reason);
        match part.as_rule() {
            Rule::key => {
                check_label_key(part.as_str()).map_err(wrong)?;
                part.as_str().clone_into(&mut key);
            }
            Rule::value => {
                check_label_value(part.as_str()).map_err(wrong)?;
                values.push(part.as_str().to_owned());
            }
            Rule::not_in | Rule::not_equal => operator = Operator::NotIn,
            Rule::greater => operator = Operator::GreaterThan,
            Rule::less => operator = Operator::LessThan,
            _ => {}
        }
    }
    if matches!(operator, Operator::GreaterThan | Operator::LessThan) && values.iter().any(|value| value.parse::<i64>().is_err()) {
        return Err(WordError::new(LABELS, text, 0, format!("`{key}` is compared with > or <: expected an integer")));
    }
    Ok(Requirement { key, operator, values })
}

/// Checks a label key: an optional DNS name and `/`, then at most 63 characters that begin and end with a letter or digit.
///
/// # Errors
/// One sentence that says what is wrong.
pub fn check_label_key(key: &str) -> Result<(), String> {
    let name = match key.split_once('/') {
        Some((prefix, name)) => {
            let label = |part: &str| {
                !part.is_empty()
                    && part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
                    && !part.starts_with('-')
                    && !part.ends_with('-')
            };
            if prefix.len() > 253 || !prefix.split('.').all(label) {
                return Err(format!("the prefix of label key `{key}` is not a DNS name in lower case"));
            }
            name
        }
        None => key,
    };
    if name.is_empty() || !is_label_text(name) {
        return Err(format!("label key `{key}` must have a name of 1 to 63 letters, digits, `-`, `_` or `.`, beginning and ending with a letter or digit"));
    }
    Ok(())
}

/// Checks a label value: empty, or at most 63 characters that begin and end with a letter or digit.
///
/// # Errors
/// One sentence that says what is wrong.
pub fn check_label_value(value: &str) -> Result<(), String> {
    if value.is_empty() || is_label_text(value) {
        return Ok(());
    }
    Err(format!("label value `{value}` must have at most 63 letters, digits, `-`, `_` or `.`, beginning and ending with a letter or digit"))
}

fn is_label_text(text: &str) -> bool {
    let inside = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    let bytes = text.as_bytes();
    let ends = [bytes.first(), bytes.last()].into_iter().flatten().all(u8::is_ascii_alphanumeric);
    text.len() <= 63 && ends && bytes.iter().copied().all(inside)
}

impl fmt::Display for LabelSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, requirement) in self.requirements.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            let (key, values) = (&requirement.key, requirement.values.join(","));
            match requirement.operator {
                Operator::In if requirement.values.len() == 1 => write!(f, "{comma}{key}={values}")?,
                Operator::NotIn if requirement.values.len() == 1 => write!(f, "{comma}{key}!={values}")?,
                Operator::In => write!(f, "{comma}{key} in ({values})")?,
                Operator::NotIn => write!(f, "{comma}{key} notin ({values})")?,
                Operator::Exists => write!(f, "{comma}{key}")?,
                Operator::DoesNotExist => write!(f, "{comma}!{key}")?,
                Operator::GreaterThan => write!(f, "{comma}{key}>{values}")?,
                Operator::LessThan => write!(f, "{comma}{key}<{values}")?,
            }
        }
        Ok(())
    }
}

/// Equalities of fields that must all hold. Without any, everything matches.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FieldSelector {
    /// The terms in the order written.
    pub terms: Vec<FieldTerm>,
}

/// One term of a field selector.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldTerm {
    /// The field: `metadata.name`.
    pub path: String,
    /// True for `=`, false for `!=`.
    pub equal: bool,
    /// The value, with escapes removed.
    pub value: String,
}

impl FieldSelector {
    /// Reads a selector; blank text selects everything.
    ///
    /// # Errors
    /// When the text does not have the shape.
    pub fn parse(text: &str) -> Result<Self, WordError> {
        let pairs = Grammar::parse(Rule::fields, text).map_err(|error| WordError::from_pest(FIELDS, text, &error, FIELDS_SHAPE))?;
        let terms = pairs.flat_map(Pair::into_inner).filter(|pair| pair.as_rule() == Rule::term);
        Ok(FieldSelector { terms: terms.map(field_term).collect() })
    }

    /// Whether all terms hold for these fields; a field that is not there is empty.
    pub fn matches(&self, fields: &BTreeMap<String, String>) -> bool {
        self.matches_with(|path| fields.get(path).map(String::as_str))
    }

    /// Whether all terms hold for fields that `get` looks up; a field that is not there is empty.
    pub fn matches_with<'a>(&self, get: impl Fn(&str) -> Option<&'a str>) -> bool {
        self.terms.iter().all(|term| (get(&term.path).unwrap_or_default() == term.value) == term.equal)
    }
}

fn field_term(term: Pair<'_, Rule>) -> FieldTerm {
    let (mut path, mut equal, mut value) = (String::new(), true, String::new());
    for part in term.into_inner() {
        match part.as_rule() {
            Rule::path => part.as_str().clone_into(&mut path),
            Rule::not_equal => equal = false,
            Rule::text => {
                let mut chars = part.as_str().trim_end().chars();
                while let Some(character) = chars.next() {
                    value.extend(if character == '\\' { chars.next() } else { Some(character) });
                }
            }
            _ => {}
        }
    }
    FieldTerm { path, equal, value }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::{FieldSelector, LabelSelector};

    fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn label_selectors_match_as_kubernetes_does() {
        let labels = map(&[("app", "web"), ("tier", ""), ("n", "5"), ("example.com/a", "b")]);
        let cases = [
            ("", true),
            ("app=web", true),
            ("app==web,n!=6", true),
            ("app in (api, web)", true),
            ("app notin (web)", false),
            ("missing!=x", true),
            ("missing notin (x)", true),
            ("!missing", true),
            ("!app", false),
            ("app", true),
            ("tier=", true),
            ("tier in (,x)", true),
            ("n>4,n<6", true),
            ("n>5", false),
            ("example.com/a=b", true),
            ("in in (x)", false),
            ("index", false),
            (" app = web , n ", true),
        ];
        for (text, expected) in cases {
            let selector = LabelSelector::parse(text).unwrap_or_else(|error| panic!("{error}"));
            assert_eq!(selector.matches(&labels), expected, "{text}");
            assert_eq!(LabelSelector::parse(&selector.to_string()), Ok(selector), "{text} shown and read again");
        }
    }

    #[test]
    fn wrong_label_selectors_are_refused() {
        for text in ["a=b=c", "a in b", "a in (b", ",", "a,,b", "=b", "a b", "a>x", "A_/b", "-a", "a=-b", "!", "a=b,"] {
            assert!(LabelSelector::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn field_selectors_match_and_unescape() {
        let fields = map(&[("metadata.name", "a,b=c"), ("status.phase", "Running")]);
        for (text, expected) in [
            ("", true),
            (r"metadata.name=a\,b\=c", true),
            ("status.phase!=Failed,spec.nodeName=", true),
            ("status.phase==Running", true),
            ("spec.nodeName!=", false),
        ] {
            assert_eq!(FieldSelector::parse(text).map(|selector| selector.matches(&fields)), Ok(expected), "{text}");
        }
        assert!(FieldSelector::parse("a").is_err());
        assert!(FieldSelector::parse(r"a=\x").is_err());
    }
}
