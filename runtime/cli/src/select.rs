//! What a user means by `pods`, `deploy/web`, `svc,cm` or `all`.

use strake_client::Resource;
use strake_kinds::KindInfo;

use crate::failure::Failure;

/// A kind with the names that were given; none means all of the kind.
#[derive(Clone, Debug, PartialEq)]
pub struct Selection {
    /// The kind.
    pub resource: Resource,
    /// Names, in the order given.
    pub names: Vec<String>,
}

fn resource(row: &KindInfo) -> Resource {
    Resource::new(row.group, row.version, row.plural, row.kind, row.namespaced)
}

fn rows() -> impl Iterator<Item = &'static KindInfo> {
    strake_kinds::table().iter()
}

/// The kind of a word: plural, singular, short name, or kind, in any case, optionally with `.group`.
///
/// # Errors
/// An unknown word, with the nearest known one.
pub fn kind(word: &str) -> Result<Resource, Failure> {
    let lower = word.to_lowercase();
    let (name, group) = lower.split_once('.').map_or((lower.as_str(), None), |(name, group)| (name, Some(group)));
    let named = |row: &&KindInfo| row.plural == name || row.singular == name || row.kind.to_lowercase() == name || row.short_names.contains(&name);
    let grouped = |row: &&KindInfo| group.is_none_or(|group| row.group == group || format!("{}.{}", row.version, row.group) == group);
    let mut found: Vec<&KindInfo> = rows().filter(named).filter(grouped).collect();
    // Events live in two groups; the core one is what people mean.
    found.sort_by_key(|row| (!row.supported, row.group.len()));
    if let Some(row) = found.first() {
        return Ok(resource(row));
    }
    // Short names are near to everything.
    let known = rows().flat_map(|row| [row.plural, row.singular]);
    let hint = strake_source::nearest(name, known).map(|near| format!(": did you mean {near}?")).unwrap_or_default();
    Err(Failure::text(format!("there is no kind `{word}`{hint}")))
}

/// What to add where a kind is one that strake's own cluster does not run; empty for the others.
pub fn unsupported(resource: &Resource) -> String {
    let same = |row: &&KindInfo| row.group == resource.group && row.kind == resource.kind;
    if rows().filter(same).any(|row| row.supported) { String::new() } else { format!(": strake's own cluster does not run {} yet", resource.plural) }
}

/// Reads `KIND`, `KIND,KIND`, `KIND NAME…`, `KIND/NAME…` and `all`.
///
/// # Errors
/// Unknown kinds, and mixed forms.
pub fn parse(words: &[String]) -> Result<Vec<Selection>, Failure> {
    let first = words.first().map(String::as_str).unwrap_or_default();
    if first.contains('/') {
        let each = |word: &String| match word.split_once('/') {
            Some((word, name)) if !name.is_empty() => Ok(Selection { resource: kind(word)?, names: vec![name.to_owned()] }),
            _ => Err(Failure::text(format!("`{word}` is not KIND/NAME: give all of them in that form, or one KIND and then names"))),
        };
        return words.iter().map(each).collect();
    }
    let names = words[1..].to_vec();
    if let Some(mixed) = names.iter().find(|name| name.contains('/')) {
        return Err(Failure::text(format!("`{mixed}` is KIND/NAME after a KIND: give all of them in one form")));
    }
    let mut selections = Vec::new();
    for word in first.split(',') {
        if word == "all" {
            let all = rows().filter(|row| row.supported && row.categories.contains(&"all"));
            selections.extend(all.map(|row| Selection { resource: resource(row), names: names.clone() }));
        } else {
            selections.push(Selection { resource: kind(word)?, names: names.clone() });
        }
    }
    Ok(selections)
}

/// One object: `KIND NAME` or `KIND/NAME`.
///
/// # Errors
/// Anything else.
pub fn one(words: &[String]) -> Result<(Resource, String), Failure> {
    let mut selections = parse(words)?;
    match (selections.pop(), selections.is_empty()) {
        (Some(Selection { resource, mut names }), true) if names.len() == 1 => Ok((resource, names.remove(0))),
        _ => Err(Failure::text("give one object: KIND NAME or KIND/NAME")),
    }
}

/// A namespace to send: cluster-scoped kinds have none.
pub fn namespace<'a>(resource: &Resource, namespace: &'a str) -> Option<&'a str> {
    resource.namespaced.then_some(namespace)
}

#[cfg(test)]
mod tests {
    use super::{kind, one, parse};

    fn words(text: &str) -> Vec<String> {
        text.split(' ').map(str::to_owned).collect()
    }

    #[test]
    fn words_of_all_forms_are_understood() {
        let plural = |word: &str| kind(word).map(|resource| resource.plural.into_owned()).ok();
        assert_eq!(plural("po").as_deref(), Some("pods"));
        assert_eq!(plural("Deployment").as_deref(), Some("deployments"));
        assert_eq!(plural("deployments.apps").as_deref(), Some("deployments"));
        assert_eq!(kind("ev").map(|resource| resource.group.into_owned()).ok().as_deref(), Some(""));
        let error = kind("deploymnet").expect_err("a typo").to_string();
        assert!(error.contains("did you mean deployment?"), "{error}");
    }

    #[test]
    fn forms_are_not_mixed() {
        assert_eq!(parse(&words("svc,cm")).map(|found| found.len()).ok(), Some(2));
        assert_eq!(parse(&words("pods a b")).map(|found| found[0].names.clone()).ok(), Some(vec!["a".to_owned(), "b".to_owned()]));
        assert!(parse(&words("pod/a b")).is_err());
        assert!(parse(&words("pod a/b")).is_err());
        assert_eq!(one(&words("deploy/web")).map(|(_, name)| name).ok().as_deref(), Some("web"));
        assert!(one(&words("deploy")).is_err());
        assert!(parse(&words("all")).is_ok_and(|found| found.len() >= 4));
    }
}
