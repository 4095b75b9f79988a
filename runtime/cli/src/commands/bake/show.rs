//! `--list`: targets and variables.

use serde_json::{Map, Value, json};
use strake_bake::{Config, Variable};

use crate::failure::Failure;
use crate::output::{say, table};

/// Lists what the word asks for: `targets`, `variables`, `type=targets,format=json`.
pub fn list(word: &str, config: &Config) -> Result<(), Failure> {
    let wrong = || Failure::text(format!("--list {word}: expected targets or variables, or type=targets,format=json")).with_code(2);
    let (mut kind, mut is_data) = ("", false);
    for field in word.split(',') {
        match field.split_once('=') {
            None if kind.is_empty() => kind = field,
            Some(("type", value)) => kind = value,
            Some(("format", "json")) => is_data = true,
            Some(("format", "table")) => {}
            _ => return Err(wrong()),
        }
    }
    match kind {
        "targets" => targets(config, is_data),
        "variables" => variables(&config.variables, is_data),
        _ => Err(wrong()),
    }
}

/// Targets and groups by name; those that begin with `_` are nobody's business.
fn targets(config: &Config, is_data: bool) -> Result<(), Failure> {
    let mut rows: Vec<(String, String, bool)> = config.targets.iter().map(|target| (target.name.clone(), target.description.clone(), false)).collect();
    for group in &config.groups {
        let mut members = group.targets.clone();
        members.sort();
        let members = members.join(", ");
        let description = match (group.description.is_empty(), members.is_empty()) {
            (true, _) => members,
            (false, true) => group.description.clone(),
            (false, false) => format!("{} ({members})", group.description),
        };
        rows.push((group.name.clone(), description, true));
    }
    rows.retain(|(name, ..)| !name.starts_with('_'));
    rows.sort();
    if is_data {
        let each = |(name, description, is_group): (String, String, bool)| {
            let mut map = Map::from_iter([("name".to_owned(), Value::from(name))]);
            map.extend((!description.is_empty()).then(|| ("description".to_owned(), description.into())));
            map.extend(is_group.then(|| ("group".to_owned(), true.into())));
            Value::from(map)
        };
        say(serde_json::to_string_pretty(&rows.into_iter().map(each).collect::<Vec<_>>())?);
        return Ok(());
    }
    let rows: Vec<Vec<String>> = rows.into_iter().map(|(name, description, _)| vec![name, description]).collect();
    say(table(&["TARGET", "DESCRIPTION"], &rows));
    Ok(())
}

fn variables(variables: &[Variable], is_data: bool) -> Result<(), Failure> {
    if is_data {
        let each = |variable: &Variable| {
            let mut map = Map::from_iter([("name".to_owned(), json!(variable.name))]);
            map.extend((!variable.description.is_empty()).then(|| ("description".to_owned(), json!(variable.description))));
            map.extend(variable.kind.as_ref().map(|kind| ("type".to_owned(), json!(kind))));
            map.extend(variable.value.as_ref().map(|value| ("value".to_owned(), json!(value))));
            Value::from(map)
        };
        say(serde_json::to_string_pretty(&variables.iter().map(each).collect::<Vec<_>>())?);
        return Ok(());
    }
    let each = |variable: &Variable| {
        let value = variable.value.clone().unwrap_or_else(|| "<null>".to_owned());
        vec![variable.name.clone(), variable.kind.clone().unwrap_or_default(), value, variable.description.clone()]
    };
    say(table(&["VARIABLE", "TYPE", "VALUE", "DESCRIPTION"], &variables.iter().map(each).collect::<Vec<_>>()));
    Ok(())
}
