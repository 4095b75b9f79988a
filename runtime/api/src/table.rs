//! Tables, as `kubectl get` shows them: columns and cells for each kind.

use jiff::Timestamp;
use serde_json::{Value, json};
use strake_kinds::KindInfo;

use crate::meta;
use crate::read::partial;
use crate::status::{Answer, Refusal};

mod cluster;
mod jobs;
mod pods;
mod services;
mod workloads;

/// What each row carries of its object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Include {
    None,
    Metadata,
    Object,
}

impl Include {
    pub(crate) fn parse(text: Option<&str>) -> Answer<Include> {
        match text {
            None | Some("Metadata") => Ok(Include::Metadata),
            Some("None") => Ok(Include::None),
            Some("Object") => Ok(Include::Object),
            Some(other) => Err(Refusal::bad_request(format!("includeObject: {other:?} is none of None, Metadata, Object"))),
        }
    }
}

/// A column: its title, its type, and whether it is shown only in the wide output.
pub(crate) struct Column {
    name: &'static str,
    ty: &'static str,
    wide: bool,
    /// How it makes its cell.
    cell: fn(&Value, Timestamp) -> Value,
}

const fn column(name: &'static str, cell: fn(&Value, Timestamp) -> Value) -> Column {
    Column { name, ty: "string", wide: false, cell }
}

const fn number(name: &'static str, cell: fn(&Value, Timestamp) -> Value) -> Column {
    Column { name, ty: "integer", wide: false, cell }
}

const fn wide(name: &'static str, cell: fn(&Value, Timestamp) -> Value) -> Column {
    Column { name, ty: "string", wide: true, cell }
}

const NAME: Column = column("Name", |object, _| meta::text(object, "name").into());
const AGE: Column = column("Age", |object, now| age(&object["metadata"]["creationTimestamp"], now));

/// How long ago a time was, `<unknown>` when it is not known.
pub(crate) fn age(time: &Value, now: Timestamp) -> Value {
    match time.as_str().and_then(|text| text.parse::<Timestamp>().ok()) {
        Some(then) => span(now.as_second() - then.as_second()).into(),
        None => "<unknown>".into(),
    }
}

/// A span of seconds as kubectl writes it: exact while it is short, coarse when it is long.
pub(crate) fn span(seconds: i64) -> String {
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86400);
    let two = |large: i64, unit: char, small: i64, fine: char| if small == 0 { format!("{large}{unit}") } else { format!("{large}{unit}{small}{fine}") };
    match seconds {
        ..-1 => "<invalid>".to_owned(),
        -1..=0 => "0s".to_owned(),
        1..120 => format!("{seconds}s"),
        120..600 => two(minutes, 'm', seconds % 60, 's'),
        600..10800 => format!("{minutes}m"),
        10800..28800 => two(hours, 'h', minutes % 60, 'm'),
        28800..172_800 => format!("{hours}h"),
        172_800..691_200 => two(days, 'd', hours % 24, 'h'),
        691_200..63_072_000 => format!("{days}d"),
        63_072_000..252_288_000 => two(days / 365, 'y', days % 365, 'd'),
        _ => format!("{}y", days / 365),
    }
}

/// Text or `<none>`.
fn or_none(text: &str) -> Value {
    if text.is_empty() { "<none>".into() } else { text.into() }
}

/// Labels as `a=b,c=d`, `<none>` without any.
fn labels(map: &Value) -> Value {
    let mut pairs: Vec<String> = map.as_object().into_iter().flatten().map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default())).collect();
    pairs.sort();
    or_none(&pairs.join(","))
}

/// A selector with match labels and expressions.
fn selector(value: &Value) -> Value {
    let mut terms: Vec<String> =
        value["matchLabels"].as_object().into_iter().flatten().map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default())).collect();
    terms.sort();
    for expression in value["matchExpressions"].as_array().into_iter().flatten() {
        let key = expression["key"].as_str().unwrap_or_default();
        let values: Vec<&str> = expression["values"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        terms.push(match expression["operator"].as_str().unwrap_or_default() {
            "In" => format!("{key} in ({})", values.join(",")),
            "NotIn" => format!("{key} notin ({})", values.join(",")),
            "DoesNotExist" => format!("!{key}"),
            _ => key.to_owned(),
        });
    }
    or_none(&terms.join(","))
}

/// The names, or images, of a template's containers.
fn of_containers(spec: &Value, field: &str) -> Value {
    let list: Vec<&str> = spec["containers"].as_array().into_iter().flatten().filter_map(|container| container[field].as_str()).collect();
    list.join(",").into()
}

fn length(value: &Value) -> i64 {
    let count = value.as_object().map(serde_json::Map::len).or_else(|| value.as_array().map(Vec::len)).unwrap_or_default();
    i64::try_from(count).unwrap_or(i64::MAX)
}

const OTHERS: &[Column] = &[NAME, AGE];

fn columns(kind: &KindInfo) -> &'static [Column] {
    match (kind.group, kind.kind) {
        ("", "Pod") => pods::PODS,
        ("apps", "Deployment") => workloads::DEPLOYMENTS,
        ("apps", "ReplicaSet") => workloads::REPLICA_SETS,
        ("batch", "Job") => jobs::JOBS,
        ("batch", "CronJob") => jobs::CRON_JOBS,
        ("", "Service") => services::SERVICES,
        ("discovery.k8s.io", "EndpointSlice") => services::ENDPOINT_SLICES,
        ("", "Node") => cluster::NODES,
        ("", "Namespace") => cluster::NAMESPACES,
        ("", "ConfigMap") => cluster::CONFIG_MAPS,
        ("", "Secret") => cluster::SECRETS,
        ("", "ServiceAccount") => cluster::SERVICE_ACCOUNTS,
        ("", "Event") => cluster::EVENTS,
        ("coordination.k8s.io", "Lease") => cluster::LEASES,
        ("strake.dev", "Sync") => cluster::SYNCS,
        _ => OTHERS,
    }
}

/// The table of `objects`.
pub(crate) fn table(kind: &KindInfo, objects: Vec<Value>, revision: &str, include: Include, now: Timestamp) -> Value {
    let columns = columns(kind);
    let definitions: Vec<Value> = columns
        .iter()
        .map(|column| {
            let format = if column.name == "Name" { "name" } else { "" };
            json!({"name": column.name, "type": column.ty, "format": format, "description": column.name, "priority": i32::from(column.wide)})
        })
        .collect();
    let rows: Vec<Value> = objects
        .into_iter()
        .map(|object| {
            let cells: Vec<Value> = columns.iter().map(|column| (column.cell)(&object, now)).collect();
            let mut row = json!({ "cells": cells });
            match include {
                Include::None => {}
                Include::Metadata => row["object"] = partial(&object),
                Include::Object => row["object"] = object,
            }
            row
        })
        .collect();
    json!({"kind": "Table", "apiVersion": "meta.k8s.io/v1", "metadata": {"resourceVersion": revision}, "columnDefinitions": definitions, "rows": rows})
}

#[cfg(test)]
mod tests {
    use super::span;

    #[test]
    fn spans() {
        for (seconds, text) in [
            (-5, "<invalid>"),
            (0, "0s"),
            (119, "119s"),
            (120, "2m"),
            (155, "2m35s"),
            (600, "10m"),
            (10799, "179m"),
            (10800, "3h"),
            (11000, "3h3m"),
            (28800, "8h"),
            (172_799, "47h"),
            (172_800, "2d"),
            (180_000, "2d2h"),
            (691_200, "8d"),
            (63_072_000, "2y"),
            (63_158_400, "2y1d"),
            (315_360_000, "10y"),
        ] {
            assert_eq!(span(seconds), text, "{seconds}");
        }
    }
}
