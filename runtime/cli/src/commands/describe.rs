//! strake describe

use std::path::Path;

use serde_json::Value;
use strake_client::{Client, ListParams, Resource};

use crate::args::Describe;
use crate::commands::get::{missing, nothing_found, refused};
use crate::connect::connect;
use crate::failure::Failure;
use crate::output::{age, note, say};
use crate::select::{namespace, parse};

/// Fields that say nothing to people.
const HIDDEN: [&str; 6] = ["managedFields", "resourceVersion", "generation", "selfLink", "ownerReferences", "uid"];

/// Shows objects with their events.
pub async fn run(root: &Path, args: &Describe) -> Result<(), Failure> {
    let client = connect(root, &args.scope.target).await?;
    for selection in parse(&args.what)? {
        let space = namespace(&selection.resource, &args.scope.namespace);
        let mut objects = Vec::new();
        for name in &selection.names {
            let found = client.get(&selection.resource, space, name).await?;
            objects.push(found.ok_or_else(|| missing(&selection.resource, name, &args.scope.namespace))?);
        }
        if selection.names.is_empty() {
            let listed = client.list(&selection.resource, space, &ListParams::default()).await;
            objects = listed.map_err(|error| refused(&selection.resource, error))?.items;
        }
        if objects.is_empty() {
            note(nothing_found(space));
        }
        for (index, object) in objects.iter().enumerate() {
            if index > 0 {
                say("");
            }
            say(describe(object));
            say(events(&client, object).await?);
        }
    }
    Ok(())
}

fn describe(object: &Value) -> String {
    let metadata = &object["metadata"];
    let mut lines = vec![format!("{:<13}{}", "Name:", metadata["name"].as_str().unwrap_or_default())];
    if let Some(namespace) = metadata["namespace"].as_str() {
        lines.push(format!("{:<13}{namespace}", "Namespace:"));
    }
    lines.push(format!("{:<13}{}", "Kind:", object["kind"].as_str().unwrap_or_default()));
    let owners = metadata["ownerReferences"].as_array().into_iter().flatten();
    for owner in owners {
        lines.push(format!("{:<13}{}/{}", "Owned by:", owner["kind"].as_str().unwrap_or_default(), owner["name"].as_str().unwrap_or_default()));
    }
    for (title, field) in [("Labels:", "labels"), ("Annotations:", "annotations")] {
        let pairs = metadata[field].as_object().into_iter().flatten();
        for (index, (key, value)) in pairs.enumerate() {
            lines.push(format!("{:<13}{key}={}", if index == 0 { title } else { "" }, value.as_str().unwrap_or_default()));
        }
    }
    let secret = object["kind"] == "Secret";
    for (key, value) in object.as_object().into_iter().flatten() {
        if matches!(key.as_str(), "apiVersion" | "kind" | "metadata") {
            continue;
        }
        if secret && key == "data" {
            lines.push("Data:".to_owned());
            let sizes =
                value.as_object().into_iter().flatten().map(|(name, text)| format!("  {name}: {} bytes", text.as_str().map_or(0, |text| text.len() * 3 / 4)));
            lines.extend(sizes);
            continue;
        }
        if value.is_object() || value.is_array() {
            lines.push(format!("{}:", capital(key)));
            show(value, 2, &mut lines);
        } else {
            let title = format!("{}:", capital(key));
            lines.push(format!("{title:<13}{}", value.as_str().map_or_else(|| value.to_string(), str::to_owned)));
        }
    }
    lines.join("\n")
}

fn capital(word: &str) -> String {
    let mut letters = word.chars();
    letters.next().map(|first| first.to_uppercase().collect::<String>() + letters.as_str()).unwrap_or_default()
}

/// A value as indented lines; lists of objects by a dash.
fn show(value: &Value, indent: usize, lines: &mut Vec<String>) {
    let space = " ".repeat(indent);
    let plain = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    match value {
        Value::Object(map) => {
            for (key, value) in map.iter().filter(|(key, _)| !HIDDEN.contains(&key.as_str())) {
                match value {
                    Value::Object(inner) if !inner.is_empty() => {
                        lines.push(format!("{space}{key}:"));
                        show(value, indent + 2, lines);
                    }
                    Value::Array(items) if items.iter().any(Value::is_object) => {
                        lines.push(format!("{space}{key}:"));
                        show(value, indent + 2, lines);
                    }
                    Value::Array(items) => lines.push(format!("{space}{key}: {}", items.iter().map(plain).collect::<Vec<_>>().join(" "))),
                    other => lines.push(format!("{space}{key}: {}", plain(other))),
                }
            }
        }
        Value::Array(items) => {
            for item in items {
                let before = lines.len();
                show(item, indent + 2, lines);
                if let Some(first) = lines.get_mut(before) {
                    first.replace_range(indent..indent + 1, "-");
                }
            }
        }
        other => lines.push(format!("{space}{}", plain(other))),
    }
}

async fn events(client: &Client, object: &Value) -> Result<String, Failure> {
    let name = object["metadata"]["name"].as_str().unwrap_or_default();
    let uid = object["metadata"]["uid"].as_str().unwrap_or_default();
    let params = ListParams::fields(format!("involvedObject.name={name},involvedObject.uid={uid}"));
    let mut found = client.list(&Resource::EVENTS, object["metadata"]["namespace"].as_str(), &params).await?.items;
    if found.is_empty() {
        return Ok("Events: none".to_owned());
    }
    let last = |event: &Value| event["lastTimestamp"].as_str().or(event["eventTime"].as_str()).unwrap_or_default().to_owned();
    found.sort_by_key(last);
    let now = jiff::Timestamp::now().as_second();
    let row = |event: &Value| {
        let ago = last(event).parse::<jiff::Timestamp>().map_or(0, |time| now - time.as_second());
        let count = event["count"].as_i64().filter(|count| *count > 1).map(|count| format!(" (x{count})")).unwrap_or_default();
        let text = |field: &str| event[field].as_str().unwrap_or_default().to_owned();
        vec![text("type"), text("reason"), format!("{}{count}", age(ago)), text("message")]
    };
    let rows: Vec<Vec<String>> = found.iter().map(row).collect();
    Ok(format!("Events:\n{}", crate::output::table(&["TYPE", "REASON", "AGE", "MESSAGE"], &rows)))
}

#[cfg(test)]
mod tests {
    use super::describe;
    use serde_json::json;

    #[test]
    fn secrets_show_sizes_only_and_lists_have_dashes() {
        let secret = describe(&json!({"kind": "Secret", "metadata": {"name": "s"}, "data": {"token": "czNjcmV0"}}));
        assert!(!secret.contains("czNjcmV0") && secret.contains("token: 6 bytes"), "{secret}");
        let pod = describe(&json!({"kind": "Pod", "metadata": {"name": "p"}, "spec": {"containers": [{"name": "a", "args": ["x", "y"]}]}}));
        assert!(pod.contains("Spec:\n  containers:\n    - name: a\n      args: x y"), "{pod}");
    }
}
