//! strake image prune, strake image du, strake builder prune: what takes room, why, and what goes.

use std::collections::BTreeMap;
use std::io::{IsTerminal, Write};
use std::path::Path;
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};
use strake_store::{Item, PruneOptions, PruneReport, Reason, Store, StoreError, What};

use crate::args::{Du, Format, Prune};
use crate::commands::history;
use crate::commands::images::familiar;
use crate::commands::serve::need_root;
use crate::failure::Failure;
use crate::interrupt;
use crate::output::{age, counted, data, note, say, size, table};

/// Of more items than this only the sum is shown; `-o json` has them all.
const SHOWN: usize = 30;
/// How often a store that is in use is looked at again.
const PAUSE: Duration = Duration::from_millis(200);

/// What a prune may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// `image prune`: `--all` adds images that no container uses.
    Images,
    /// `builder prune`: `--all` takes the whole build cache.
    Cache,
}

/// Removes what nothing needs, and down to a cap what was used least recently.
pub fn prune(root: &Path, args: &Prune, scope: Scope) -> Result<(), Failure> {
    need_root(if scope == Scope::Images { "strake image prune" } else { "strake builder prune" })?;
    let options = options(args, scope)?;
    if scope == Scope::Images && args.all && !args.force && !args.dry_run {
        confirm()?;
    }
    let store = Store::open(root)?;
    history::let_go(root, &store)?;
    let report = when_free(&store, options, args.wait)?;
    match args.output {
        Format::Text => print_report(&report, options.dry_run),
        format => say(data(&report_data(&report, &options), format)),
    }
    match options.cap_bytes {
        Some(cap) if report.kept_bytes > cap => Err(Failure::text(format!(
            "{} stay, more than --keep-storage allows ({}): they are needed, as listed{}",
            size(report.kept_bytes),
            size(cap),
            if scope == Scope::Images && !args.all { "; --all takes images that no container uses too" } else { "" }
        ))),
        _ => Ok(()),
    }
}

/// Shows what takes room.
pub fn usage(root: &Path, args: &Du) -> Result<(), Failure> {
    need_root("strake image du")?;
    let options = PruneOptions { keep_cache: Duration::MAX, dry_run: true, ..PruneOptions::default() };
    let report = Store::open(root)?.prune(options)?;
    if args.output != Format::Text {
        say(data(&report_data(&report, &options), args.output));
        return Ok(());
    }
    let mut kinds: BTreeMap<&str, (usize, u64, u64)> = BTreeMap::new();
    for (item, idle) in report.kept.iter().map(|item| (item, !is_needed(item))).chain(report.removed.iter().map(|item| (item, true))) {
        let row = kinds.entry(plural(&item.what)).or_default();
        *row = (row.0 + 1, row.1 + item.size_bytes, row.2 + if idle { item.size_bytes } else { 0 });
    }
    let rows: Vec<Vec<String>> =
        kinds.iter().map(|(kind, (count, bytes, idle))| vec![(*kind).to_owned(), count.to_string(), size(*bytes), size(*idle)]).collect();
    say(table(&["KIND", "NUMBER", "SIZE", "RECLAIMABLE"], &rows));
    say("");
    print_groups(&report, args.verbose_items);
    Ok(())
}

/// Needed by an image, a container or something that arrives, and not only by the build cache.
fn is_needed(item: &Item) -> bool {
    item.reasons
        .iter()
        .any(|reason| matches!(reason, Reason::Container { .. } | Reason::Image { .. } | Reason::Pinned { .. } | Reason::Arriving | Reason::Held))
}

fn options(args: &Prune, scope: Scope) -> Result<PruneOptions, Failure> {
    let mut options = PruneOptions { unused_images: args.all && scope == Scope::Images, dry_run: args.dry_run, ..PruneOptions::default() };
    if args.all && scope == Scope::Cache {
        options.keep_cache = Duration::ZERO;
    }
    for filter in &args.filters {
        let until = match filter.split_once('=') {
            Some(("until", text)) => until(text),
            _ => return Err(Failure::text(format!("--filter {filter}: only until=DURATION is supported, such as until=24h")).with_code(2)),
        };
        let wrong = || Failure::text(format!("--filter {filter}: expected a duration such as 24h or 10m, or a time such as 2026-01-31T12:00:00Z")).with_code(2);
        let until = until.ok_or_else(wrong)?;
        (options.keep_cache, options.keep_images) = (until, until);
    }
    if let Some(text) = &args.keep_storage {
        let wrong = || Failure::text(format!("--keep-storage {text}: expected bytes, or a number with k, m, g or t, such as 10g")).with_code(2);
        options.cap_bytes = Some(bytes(text).ok_or_else(wrong)?);
    }
    Ok(options)
}

/// How long back: a duration as Docker writes it, or a point in time.
fn until(text: &str) -> Option<Duration> {
    if let Ok(duration) = strake_words::GoDuration::parse(text) {
        return Some(duration.to_std());
    }
    let time: jiff::Timestamp = text.parse().ok()?;
    SystemTime::now().duration_since(time.into()).ok()
}

/// `10g`, `512MB`, `1.5GiB`: units of 1024, as Docker reads them.
fn bytes(text: &str) -> Option<u64> {
    let lower = text.trim().to_ascii_lowercase();
    let digits = lower.find(|character: char| !character.is_ascii_digit() && character != '.').unwrap_or(lower.len());
    let (number, unit) = lower.split_at(digits);
    let unit = unit.trim();
    let power = match unit.strip_suffix("ib").or_else(|| unit.strip_suffix('b')).unwrap_or(unit) {
        "" if unit != "ib" => 0,
        "k" => 1,
        "m" => 2,
        "g" => 3,
        "t" => 4,
        _ => return None,
    };
    let value = number.parse::<f64>().ok().filter(|value| value.is_finite())? * 1024_f64.powi(power);
    Some(value as u64)
}

fn confirm() -> Result<(), Failure> {
    if !std::io::stdin().is_terminal() {
        return Err(Failure::text("--all removes every image that no container uses: say --force when nobody can be asked").with_code(2));
    }
    let mut stderr = std::io::stderr();
    write!(stderr, "This removes every image that no container uses. Go on? [y/N] ")?;
    stderr.flush()?;
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer)?;
    if matches!(answer.trim(), "y" | "Y" | "yes") { Ok(()) } else { Err(Failure::text("nothing was removed")) }
}

/// Prunes; with `wait` as soon as nobody holds the store.
fn when_free(store: &Store, options: PruneOptions, wait: bool) -> Result<PruneReport, Failure> {
    let mut told = false;
    loop {
        match store.prune(options) {
            Err(StoreError::Busy { .. }) if wait && !interrupt::raised() => {
                if !std::mem::replace(&mut told, true) {
                    note(format!("waiting for {}", holders(store)));
                }
                std::thread::sleep(PAUSE);
            }
            Err(StoreError::Busy { .. }) => {
                return Err(Failure::text(format!("nothing was removed, for the store is in use by {}; --wait waits until it is free", holders(store))));
            }
            other => return Ok(other?),
        }
    }
}

/// `process 123 (strake build)`.
fn holders(store: &Store) -> String {
    let name = |pid: u32| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).into_owned();
        let mut words = line.split('\0').filter(|word| !word.is_empty());
        let program = words.next().and_then(|path| path.rsplit('/').next()).unwrap_or("unknown").to_owned();
        // Options may hold what is nobody's business; the verb stands after the global ones.
        let verb = words.find(|word| ["build", "bake", "image", "builder", "apply", "up", "serve", "registry"].contains(word)).unwrap_or_default();
        format!("process {pid} ({})", format!("{program} {verb}").trim_end())
    };
    let holders: Vec<String> = store.holders().into_iter().map(name).collect();
    if holders.is_empty() { "a build, a pull or an import".to_owned() } else { holders.join(", ") }
}

fn print_report(report: &PruneReport, dry_run: bool) {
    let rows: Vec<Vec<String>> = report
        .removed
        .iter()
        .take(SHOWN)
        .map(|item| vec![item.what.kind().to_owned(), shown(&item.what), size(item.size_bytes), used(item), was(item)])
        .collect();
    for name in &report.untagged {
        say(format!("{}{}", if dry_run { "would untag " } else { "untagged " }, familiar(name)));
    }
    if !rows.is_empty() {
        say(table(&["KIND", "NAME", "SIZE", "USED", "WHY"], &rows));
    }
    if report.removed.len() > SHOWN {
        say(format!("… and {} more (-o json lists them)", report.removed.len() - SHOWN));
    }
    let parts = [(report.snapshots, "layer"), (report.blobs, "blob"), (report.records, "cache record")];
    let others = report.removed.len() - report.snapshots - report.blobs - report.records;
    let parts: Vec<String> =
        parts.into_iter().chain([(others, "other item")]).filter(|(count, _)| *count > 0).map(|(count, noun)| counted(count, noun)).collect();
    let what = if parts.is_empty() { "nothing".to_owned() } else { parts.join(", ") };
    say(format!("{} {what}: {}", if dry_run { "would remove" } else { "removed" }, size(report.size_bytes)));
    print_groups(report, false);
}

/// What stays, by who needs it.
fn print_groups(report: &PruneReport, every_item: bool) {
    let mut groups: BTreeMap<String, (u64, usize, Vec<&Item>)> = BTreeMap::new();
    for item in &report.kept {
        let group = groups.entry(because(&item.reasons)).or_default();
        group.0 += item.size_bytes;
        group.1 += 1;
        group.2.push(item);
    }
    let mut groups: Vec<_> = groups.into_iter().collect();
    groups.sort_by_key(|(_, (bytes, ..))| std::cmp::Reverse(*bytes));
    let rows: Vec<Vec<String>> = groups.iter().map(|(because, (bytes, count, _))| vec![size(*bytes), counted(*count, "item"), because.clone()]).collect();
    if !rows.is_empty() {
        say(table(&["KEPT", "ITEMS", "FOR"], &rows));
    }
    say(format!("{} in all{}", size(report.kept_bytes), if report.kept.is_empty() { ": the store is empty" } else { "" }));
    if every_item {
        let rows = groups.iter().flat_map(|(because, (.., items))| {
            items.iter().map(|item| vec![item.what.kind().to_owned(), shown(&item.what), size(item.size_bytes), used(item), because.clone()])
        });
        say(table(&["KIND", "NAME", "SIZE", "USED", "FOR"], &rows.collect::<Vec<_>>()));
    }
}

/// One line for all reasons: the strongest kind, and at most two names of it. What layers were unpacked from is told apart from them.
fn because(reasons: &[Reason]) -> String {
    let others: Vec<Reason> = reasons.iter().filter(|reason| **reason != Reason::Original).cloned().collect();
    if others.len() < reasons.len() && !others.is_empty() {
        return format!("{}: its layers as its registry has them", because(&others));
    }
    let containers: Vec<String> = reasons.iter().filter_map(|reason| if let Reason::Container { name } = reason { Some(name.clone()) } else { None }).collect();
    let images: Vec<String> = reasons.iter().filter_map(|reason| if let Reason::Image { name, .. } = reason { Some(familiar(name)) } else { None }).collect();
    if !containers.is_empty() {
        return few("container", &containers);
    }
    if !images.is_empty() {
        return few("image", &images);
    }
    reasons.first().map_or_else(|| "nothing".to_owned(), said)
}

fn few(noun: &str, names: &[String]) -> String {
    match names {
        [one] => format!("{noun} {one}"),
        [one, two] => format!("{noun}s {one}, {two}"),
        [one, two, rest @ ..] => format!("{noun}s {one}, {two} and {} more", rest.len()),
        [] => noun.to_owned(),
    }
}

fn said(reason: &Reason) -> String {
    match reason {
        Reason::Container { name } => format!("container {name}"),
        Reason::Image { name, .. } => format!("image {}", familiar(name)),
        Reason::Pinned { by } => by.clone(),
        Reason::Arriving => "it is arriving".to_owned(),
        Reason::Held => "it was just pushed".to_owned(),
        Reason::Mount { id } => format!("cache mount {id}"),
        Reason::Cache => "build cache".to_owned(),
        Reason::Packed => "compressed layers".to_owned(),
        Reason::Original => "layers as their registry has them".to_owned(),
    }
}

fn was(item: &Item) -> String {
    if item.reasons.is_empty() { "nothing needs it".to_owned() } else { because(&item.reasons) }
}

fn used(item: &Item) -> String {
    let seconds = item.used.elapsed().unwrap_or_default().as_secs();
    format!("{} ago", age(i64::try_from(seconds).unwrap_or(i64::MAX)))
}

fn shown(what: &What) -> String {
    match what {
        What::Layer(digest) | What::Blob(digest) | What::Record(digest) => digest.short(),
        other => other.name().chars().take(24).collect(),
    }
}

fn plural(what: &What) -> &'static str {
    match what {
        What::Layer(_) => "layers",
        What::Blob(_) => "blobs",
        What::Record(_) => "cache records",
        What::Packed(_) => "notes on blobs",
        What::Mount(_) => "cache mounts",
        What::Fetched(_) => "fetched files",
        What::Stats(_) => "records of contexts",
        What::Arriving(_) => "arriving blobs",
        What::Container(_) => "containers",
    }
}

fn report_data(report: &PruneReport, options: &PruneOptions) -> Value {
    let reason = |reason: &Reason| match reason {
        Reason::Container { name } => json!({"kind": "container", "name": name}),
        Reason::Image { name, in_use } => json!({"kind": "image", "name": name, "inUse": in_use}),
        Reason::Pinned { by } => json!({"kind": "pinned", "by": by}),
        Reason::Arriving => json!({"kind": "arriving"}),
        Reason::Held => json!({"kind": "held"}),
        Reason::Mount { id } => json!({"kind": "mount", "name": id}),
        Reason::Cache => json!({"kind": "cache"}),
        Reason::Packed => json!({"kind": "packed"}),
        Reason::Original => json!({"kind": "original"}),
    };
    let time = |time: SystemTime| jiff::Timestamp::try_from(time).map_or(Value::Null, |time| json!(time.round(jiff::Unit::Second).unwrap_or(time).to_string()));
    let item = |item: &Item| {
        let reasons: Vec<Value> = item.reasons.iter().map(reason).collect();
        json!({"kind": item.what.kind(), "name": item.what.name(), "sizeBytes": item.size_bytes, "used": time(item.used), "reasons": reasons})
    };
    json!({
        "dryRun": options.dry_run,
        "capBytes": options.cap_bytes,
        "freedBytes": report.size_bytes,
        "keptBytes": report.kept_bytes,
        "untagged": report.untagged,
        "removed": report.removed.iter().map(item).collect::<Vec<_>>(),
        "kept": report.kept.iter().map(item).collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_docker_reads_them() {
        for (text, expected) in
            [("10", Some(10)), ("1k", Some(1024)), ("2MB", Some(2 << 20)), ("1.5GiB", Some(3 << 29)), ("0", Some(0)), ("1 t", Some(1 << 40))]
        {
            assert_eq!(bytes(text), expected, "{text}");
        }
        for text in ["", "g", "ten", "-1", "1x", "1ib", "1..2"] {
            assert_eq!(bytes(text), None, "{text}");
        }
    }

    #[test]
    fn times_back_are_durations_or_points() {
        assert_eq!(until("24h"), Some(Duration::from_secs(24 * 3600)));
        assert!(until("2001-01-01T00:00:00Z").is_some_and(|back| back > Duration::from_secs(20 * 365 * 24 * 3600)));
        assert_eq!(until("yesterday"), None);
    }

    #[test]
    fn reasons_are_told_by_the_strongest() {
        let image = |name: &str| Reason::Image { name: format!("docker.io/library/{name}:1"), in_use: false };
        assert_eq!(because(&[image("a"), image("b"), image("c"), Reason::Cache]), "images a:1, b:1 and 1 more");
        assert_eq!(because(&[Reason::Container { name: "x".to_owned() }, image("a")]), "container x");
        assert_eq!(because(&[Reason::Packed]), "compressed layers");
        assert_eq!(because(&[image("a"), Reason::Original]), "image a:1: its layers as its registry has them");
        assert_eq!(because(&[]), "nothing");
    }
}
