//! Lists, sets, maps and objects.

use std::collections::BTreeMap;

use super::{Arguments, Function, Host, MANY, count, row, with_nulls};
use crate::types;
use crate::value::Value;

type Answer = Result<Value, String>;

pub(super) const TABLE: &[Function] = &[
    row("chunklist", 2, 2, chunks),
    with_nulls("coalesce", 1, MANY, |a, _| a.all().iter().find(|value| **value != Value::Null).cloned().ok_or_else(|| "every argument is null".to_owned())),
    row("coalescelist", 1, MANY, |a, _| {
        a.all().iter().find(|value| matches!(value, Value::List(items) if !items.is_empty())).cloned().ok_or_else(|| "every list is empty".to_owned())
    }),
    row("compact", 1, 1, |a, _| Ok(Value::List(a.texts(0)?.into_iter().filter(|text| !text.is_empty()).map(Value::from).collect()))),
    row("concat", 1, MANY, concat),
    row("contains", 2, 2, |a, _| Ok(a.list(0)?.contains(a.value(1)).into())),
    row("distinct", 1, 1, |a, _| Ok(Value::List(distinct(a.list(0)?)))),
    row("element", 2, 2, element),
    row("flatten", 1, 1, |a, _| Ok(Value::List(flat(a.list(0)?)))),
    row("hasindex", 2, 2, |a, _| Ok(index(a.value(0), a.value(1)).is_ok().into())),
    row("index", 2, 2, |a, _| index(a.value(0), a.value(1))),
    row("indexof", 2, 2, |a, _| a.list(0)?.iter().position(|item| item == a.value(1)).map(count).ok_or_else(|| "the list has no such item".to_owned())),
    row("keys", 1, 1, |a, _| Ok(Value::List(a.object(0)?.keys().map(|key| key.as_str().into()).collect()))),
    row("length", 1, 1, length),
    with_nulls("lookup", 2, 3, lookup),
    with_nulls("merge", 0, MANY, merge),
    row("reverselist", 1, 1, |a, _| Ok(Value::List(a.list(0)?.iter().rev().cloned().collect()))),
    row("sethaselement", 2, 2, |a, _| Ok(a.list(0)?.contains(a.value(1)).into())),
    row("setintersection", 1, MANY, |a, _| sets(a, |items, others| items.retain(|item| others.contains(item)))),
    row("setproduct", 2, MANY, product),
    row("setsubtract", 2, 2, |a, _| sets(a, |items, others| items.retain(|item| !others.contains(item)))),
    row("setsymmetricdifference", 1, MANY, |a, _| {
        sets(a, |items, others| {
            let more: Vec<Value> = others.iter().filter(|item| !items.contains(item)).cloned().collect();
            items.retain(|item| !others.contains(item));
            items.extend(more);
        })
    }),
    row("setunion", 1, MANY, |a, _| sets(a, |items, others| items.extend_from_slice(others))),
    row("slice", 3, 3, slice),
    row("sort", 1, 1, |a, _| {
        a.texts(0).map(|mut texts| {
            texts.sort();
            Value::List(texts.into_iter().map(Value::from).collect())
        })
    }),
    row("values", 1, 1, |a, _| Ok(Value::List(a.object(0)?.values().cloned().collect()))),
    row("zipmap", 2, 2, zipmap),
];

/// A product has not more items.
const MOST_ITEMS: usize = 10_000;

/// The element of a list at a place, or of an object at a key.
pub(crate) fn index(of: &Value, key: &Value) -> Answer {
    match of {
        Value::List(items) => {
            let place = key.to_number().ok_or_else(|| format!("a list's place is a number, and this is {}", key.kind()))?;
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a number out of range is no place of the list")]
            let found = if place.fract() == 0.0 && place >= 0.0 { items.get(place as usize) } else { None };
            found.cloned().ok_or_else(|| format!("there is no element {}: the list has {}", crate::value::number_text(place), items.len()))
        }
        Value::Object(entries) => {
            let key = key.to_text().ok_or_else(|| format!("an object's key is text, and this is {}", key.kind()))?;
            entries.get(&key).cloned().ok_or_else(|| {
                let near = strake_source::nearest(&key, entries.keys().map(String::as_str));
                let hint = near.map(|near| format!(" (did you mean `{near}`?)")).unwrap_or_default();
                format!("there is no attribute `{key}`{hint}")
            })
        }
        other => Err(format!("{} has no elements", other.kind())),
    }
}

fn place(arguments: &Arguments<'_>, at: usize) -> Result<usize, String> {
    usize::try_from(arguments.whole(at)?).map_err(|_| format!("argument {} must not be negative", at + 1))
}

fn chunks(arguments: &Arguments<'_>, _: &Host) -> Answer {
    let (items, size) = (arguments.list(0)?, place(arguments, 1)?);
    if size == 0 {
        return Ok(Value::List(vec![Value::List(items.to_vec())]));
    }
    Ok(Value::List(items.chunks(size).map(|chunk| Value::List(chunk.to_vec())).collect()))
}

fn concat(arguments: &Arguments<'_>, _: &Host) -> Answer {
    let mut all = Vec::new();
    for at in 0..arguments.len() {
        all.extend_from_slice(arguments.list(at)?);
    }
    Ok(Value::List(all))
}

fn distinct(items: &[Value]) -> Vec<Value> {
    let mut kept: Vec<Value> = Vec::new();
    for item in items {
        if !kept.contains(item) {
            kept.push(item.clone());
        }
    }
    kept
}

fn element(arguments: &Arguments<'_>, _: &Host) -> Answer {
    let (items, at) = (arguments.list(0)?, arguments.whole(1)?);
    let total = i64::try_from(items.len()).unwrap_or(i64::MAX);
    if total == 0 {
        return Err("the list is empty".to_owned());
    }
    let at = usize::try_from(at.rem_euclid(total)).unwrap_or_default();
    Ok(items[at].clone())
}

fn flat(items: &[Value]) -> Vec<Value> {
    let each = |item: &Value| match item {
        Value::List(inner) => flat(inner),
        other => vec![other.clone()],
    };
    items.iter().flat_map(each).collect()
}

fn length(arguments: &Arguments<'_>, _: &Host) -> Answer {
    match arguments.value(0) {
        Value::List(items) => Ok(count(items.len())),
        Value::Object(entries) => Ok(count(entries.len())),
        _ => Err(arguments.wrong(0, "a list or an object (strlen counts the characters of a text)")),
    }
}

fn lookup(arguments: &Arguments<'_>, _: &Host) -> Answer {
    let (entries, key) = (arguments.object(0)?, arguments.text(1)?);
    match entries.get(&key) {
        Some(value) => Ok(value.clone()),
        None if arguments.len() == 3 => Ok(arguments.value(2).clone()),
        None => Err(format!("there is no key `{key}`, and no default")),
    }
}

fn merge(arguments: &Arguments<'_>, _: &Host) -> Answer {
    let mut all = BTreeMap::new();
    for (at, value) in arguments.all().iter().enumerate() {
        if *value != Value::Null {
            all.extend(arguments.object(at)?.clone());
        }
    }
    Ok(Value::Object(all))
}

fn sets(arguments: &Arguments<'_>, join: fn(&mut Vec<Value>, &[Value])) -> Answer {
    let mut items = distinct(arguments.list(0)?);
    for at in 1..arguments.len() {
        join(&mut items, &distinct(arguments.list(at)?));
    }
    Ok(types::set(items))
}

fn product(arguments: &Arguments<'_>, _: &Host) -> Answer {
    let mut rows: Vec<Vec<Value>> = vec![Vec::new()];
    for at in 0..arguments.len() {
        let items = arguments.list(at)?;
        if rows.len().saturating_mul(items.len()) > MOST_ITEMS {
            return Err(format!("more than {MOST_ITEMS} combinations"));
        }
        let longer = |row: &Vec<Value>| items.iter().map(|item| row.iter().cloned().chain([item.clone()]).collect()).collect::<Vec<_>>();
        rows = rows.iter().flat_map(longer).collect();
    }
    Ok(Value::List(rows.into_iter().map(Value::List).collect()))
}

fn slice(arguments: &Arguments<'_>, _: &Host) -> Answer {
    let (items, start, end) = (arguments.list(0)?, place(arguments, 1)?, place(arguments, 2)?);
    items.get(start..end).map(|part| Value::List(part.to_vec())).ok_or_else(|| format!("{start} to {end} is not within the list of {}", items.len()))
}

fn zipmap(arguments: &Arguments<'_>, _: &Host) -> Answer {
    let (keys, values) = (arguments.texts(0)?, arguments.list(1)?);
    if keys.len() != values.len() {
        return Err(format!("there are {} keys for {} values", keys.len(), values.len()));
    }
    Ok(Value::Object(keys.into_iter().zip(values.iter().cloned()).collect()))
}
