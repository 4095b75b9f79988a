//! strake status, strake drift: how a set is, and what of it is not as it was applied.

use std::io::IsTerminal;
use std::path::Path;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};
use strake_apply::Revisions;
use strake_apply::drift::{Additions, Drifted, DriftedField, State};
use strake_apply::history::deployed;
use strake_apply::status::{SetName, SetStatus, drifted, sets, status as look};
use strake_apply::tree::Node;
use strake_client::Client;

use crate::args::{Drift, Format, Status};
use crate::commands::apply::explain;
use crate::commands::history::{Named, ago, ended, named};
use crate::failure::Failure;
use crate::interrupt;
use crate::output::{Paint, age, closed, counted, data, raw, say, table};

/// How often `--watch` looks again.
const LOOK: Duration = Duration::from_secs(1);
/// Moves to the top left and clears what is below.
const CLEAR: &[u8] = b"\x1b[H\x1b[J";

/// Shows how a set is, or which sets there are.
pub fn status(root: &Path, args: &Status) -> Result<(), Failure> {
    interrupt::wait(async {
        let one = args.dir.is_some() || args.of.set.is_some() || args.of.env.is_some();
        let dir = args.dir.clone().unwrap_or_else(|| ".".into());
        let Named { name, client, .. } = if one { named(root, &dir, &args.of).await? } else { anywhere(root, args).await? };
        let live = args.watch && args.output == Format::Text && std::io::stdout().is_terminal();
        let mut said = String::new();
        loop {
            let text = if one { of_one(&client, &name, args).await? } else { of_all(&client, args).await? };
            if live {
                raw(CLEAR);
                say(&text);
            } else if text != said {
                if !said.is_empty() && args.output == Format::Text {
                    say("");
                }
                say(&text);
                said = text;
            }
            if !args.watch || closed() {
                return Ok(());
            }
            tokio::time::sleep(LOOK).await;
        }
    })
}

/// The cluster, whatever the working directory holds.
async fn anywhere(root: &Path, args: &Status) -> Result<Named, Failure> {
    let client = crate::connect::connect(root, &args.of.target).await?;
    Ok(Named { name: SetName { namespace: String::new(), set: String::new() }, client, own: false, keep: None })
}

async fn of_one(client: &Client, name: &SetName, args: &Status) -> Result<String, Failure> {
    let found = look(client, name).await?.ok_or_else(|| Failure::text(format!("no set {} was applied in namespace {}", name.set, name.namespace)))?;
    Ok(if args.output == Format::Text { text(&found, Paint::stdout(), args.watch) } else { printed(&found, args) })
}

fn printed(value: &impl serde::Serialize, args: &Status) -> String {
    match (args.watch, args.output) {
        // A line a change.
        (true, Format::Json) => serde_json::to_string(value).unwrap_or_default(),
        (true, Format::Yaml) => format!("---\n{}", data(value, Format::Yaml)),
        (_, format) => data(value, format),
    }
}

async fn of_all(client: &Client, args: &Status) -> Result<String, Failure> {
    let mut found = Vec::new();
    for name in sets(client).await?.into_iter().filter(|name| args.of.namespace.as_ref().is_none_or(|space| *space == name.namespace)) {
        found.extend(look(client, &name).await?);
    }
    if args.output != Format::Text {
        return Ok(printed(&found, args));
    }
    if found.is_empty() {
        return Ok("no set was applied here".to_owned());
    }
    let row = |set: &SetStatus| {
        let last = set.last.as_ref();
        vec![
            set.name.namespace.clone(),
            set.name.set.clone(),
            set.health.to_owned(),
            set.objects.len().to_string(),
            set.revision.map_or_else(|| "-".to_owned(), |number| number.to_string()),
            last.map_or_else(|| "-".to_owned(), |last| format!("{} {}", ended(last), ago(last.entry.started))),
        ]
    };
    Ok(table(&["NAMESPACE", "SET", "HEALTH", "OBJECTS", "REVISION", "LAST APPLY"], &found.iter().map(row).collect::<Vec<_>>()))
}

/// The tree as a person reads it. Ages are left out where they would be all that changes.
fn text(set: &SetStatus, paint: Paint, watched: bool) -> String {
    let mut lines = Vec::new();
    let name = paint.bold(&format!("set {} in {}", set.name.set, set.name.namespace));
    lines.push(format!("{name}: {}", coloured(set.health, paint)));
    match &set.last {
        None => lines.push("  no history is kept of it".to_owned()),
        Some(last) => {
            let git = last.entry.git.as_ref().map_or_else(String::new, |git| {
                format!(", git {}{}", git.revision.chars().take(10).collect::<String>(), if git.dirty { "+changes" } else { "" })
            });
            let when = if watched { last.entry.started.to_string() } else { ago(last.entry.started) };
            lines.push(format!("  revision {}: {} {when} by {}{git}", last.entry.number, ended(last), last.entry.who));
            lines.extend(last.entry.reason.as_ref().map(|reason| format!("  {}", paint.red(reason))));
            let other = set.revision.filter(|number| *number != last.entry.number);
            lines.extend(other.map(|number| format!("  deployed last: revision {number} (`strake rollback` goes back to it)")));
        }
    }
    lines.extend(set.held_by.as_ref().map(|holder| format!("  {} {holder}", paint.yellow("applied just now by"))));
    let mut rows = Vec::new();
    for (place, node) in set.objects.iter().enumerate() {
        grow(node, "", place + 1 == set.objects.len(), watched, &mut rows);
    }
    let header = if watched { vec!["OBJECT", "HEALTH", "RESTARTS", "WHY, OR IMAGE"] } else { vec!["OBJECT", "HEALTH", "AGE", "RESTARTS", "WHY, OR IMAGE"] };
    lines.push(table(&header, &rows));
    lines.join("\n")
}

fn coloured(health: &str, paint: Paint) -> String {
    match health {
        "Current" => paint.green("healthy"),
        "Failed" | "Missing" => paint.red(health),
        other => paint.yellow(other),
    }
}

fn grow(node: &Node, indent: &str, last: bool, watched: bool, rows: &mut Vec<Vec<String>>) {
    let (branch, below) = if last { ("└─ ", "   ") } else { ("├─ ", "│  ") };
    let space = if node.namespace.is_empty() || !indent.is_empty() { String::new() } else { format!(" in {}", node.namespace) };
    let mut row = vec![format!("{indent}{branch}{}/{}{space}", node.kind.to_lowercase(), node.name), node.health.to_owned()];
    if !watched {
        row.push(node.since.parse::<Timestamp>().map_or_else(|_| String::new(), |since| age(Timestamp::now().as_second() - since.as_second())));
    }
    row.push(node.restarts.map_or_else(String::new, |count| count.to_string()));
    row.push(why(node));
    rows.push(row);
    let indent = format!("{indent}{below}");
    for (place, child) in node.children.iter().enumerate() {
        grow(child, &indent, place + 1 == node.children.len(), watched, rows);
    }
}

fn why(node: &Node) -> String {
    let image = node.image.as_ref().map(|image| match &node.digest {
        Some(digest) if !image.contains('@') => format!("{image} ({})", short(digest)),
        _ => image.split_once('@').map_or_else(|| image.clone(), |(name, digest)| format!("{name} ({})", short(digest))),
    });
    let reason = Some(node.reason.clone()).filter(|reason| !reason.is_empty());
    [reason, image].into_iter().flatten().collect::<Vec<_>>().join("; ")
}

fn short(digest: &str) -> String {
    digest.chars().take("sha256:".len() + 12).collect()
}

/// Shows what of a set is not as it was applied.
pub fn drift(root: &Path, args: &Drift) -> Result<(), Failure> {
    interrupt::wait(async {
        let Named { name, client, .. } = named(root, &args.dir, &args.of).await?;
        let entries = Revisions::new(&client, &name.set, &name.namespace).list().await?;
        let entry = deployed(&entries).ok_or_else(|| {
            Failure::text(format!("set {} in {} has no revision that was deployed: there is nothing to compare with", name.set, name.namespace))
        })?;
        let found = drifted(&client, &name, entry).await.map_err(explain)?;
        if args.output == Format::Text {
            print_drift(&found.drifted, entry.number, entry.objects);
            print_added(&found.added);
        } else {
            say(data(
                &json!({"set": name.set, "namespace": name.namespace, "revision": entry.number, "objects": found.drifted, "added": found.added}),
                args.output,
            ));
        }
        if found.drifted.is_empty() { Ok(()) } else { Err(Failure::silent(2)) }
    })
}

fn print_drift(found: &[Drifted], revision: u64, objects: usize) {
    let paint = Paint::stdout();
    if found.is_empty() {
        say(format!("no drift: {} as revision {revision} says", counted(objects, "object")));
        return;
    }
    for drifted in found {
        let (word, why) = match drifted.state {
            State::Missing => (paint.red("missing"), ""),
            State::Terminating => (paint.red("going"), " (it is being deleted)"),
            State::Changed => (paint.yellow("changed"), ""),
        };
        say(format!("{word} {}{why}  {}", drifted.id, paint.dim(&drifted.origin)));
        drifted.fields.iter().for_each(|field| say(line(field, paint)));
    }
    say(format!("{} of {objects} not as revision {revision} says: `strake apply` puts it back", found.len()));
}

/// What others have added: for information, and no drift.
fn print_added(found: &[Additions]) {
    let paint = Paint::stdout();
    for addition in found {
        say(format!("{} {}  {}", paint.dim("added to"), addition.id, paint.dim(&addition.origin)));
        for field in &addition.fields {
            say(format!("    {}: {}{}", field.path, field.found, paint.dim(&format!("  by {}", field.by))));
        }
    }
    if !found.is_empty() {
        say("what others have added was never applied: `strake apply` leaves it as it is");
    }
}

fn line(field: &DriftedField, paint: Paint) -> String {
    let shown = |value: Option<&Value>| value.map_or_else(|| "(none)".to_owned(), Value::to_string);
    let by = field.by.as_ref().map_or_else(String::new, |by| format!("  by {by}"));
    format!("    {}: {} -> {}{}", field.path, paint.green(&shown(field.applied.as_ref())), paint.red(&shown(field.found.as_ref())), paint.dim(&by))
}
