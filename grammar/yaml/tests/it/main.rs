//! Golden cases (`UPDATE_GOLDEN=1` writes them anew), properties and the laws of aliases.

#![expect(clippy::disallowed_methods, reason = "golden cases are folders of files")]

mod golden;

use std::time::Instant;

use proptest::prelude::*;
use strake_source::FileId;
use strake_yaml::{Kind, parse};

fn codes(text: &str) -> Vec<&'static str> {
    parse(FileId(0), text).1.iter().map(|finding| finding.code.0).collect()
}

fn json(text: &str) -> serde_json::Value {
    let (documents, diagnostics) = parse(FileId(0), text);
    assert!(diagnostics.is_empty(), "{diagnostics:?}");
    serde_json::Value::Array(documents.iter().map(|document| document.root.to_json()).collect())
}

#[test]
fn an_alias_bomb_is_refused_quickly() {
    let mut text = "a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n".to_owned();
    for level in 1..20 {
        let below = level - 1;
        let aliases = vec![format!("*a{below}"); 10].join(",");
        text.push_str(&format!("a{level}: &a{level} [{aliases}]\n"));
    }
    let before = Instant::now();
    assert_eq!(codes(&text), ["yaml-alias-budget"]);
    assert!(before.elapsed().as_secs() < 60, "it would take years");
}

#[test]
fn a_chain_of_deep_aliases_is_refused() {
    let mut text = String::new();
    for level in 0..4 {
        let inner = if level == 0 { "x".to_owned() } else { format!("*a{}", level - 1) };
        text.push_str(&format!("a{level}: &a{level} {}{inner}{}\n", "[".repeat(30), "]".repeat(30)));
    }
    assert!(codes(&text).contains(&"yaml-depth"));
}

#[test]
fn nesting_beyond_the_limit_is_named_once_and_the_rest_is_read() {
    let text = format!("deep: {}{}\nafter: 1\n", "[".repeat(100), "]".repeat(100));
    let (documents, diagnostics) = parse(FileId(0), &text);
    assert_eq!(diagnostics.len(), 1);
    assert_eq!(documents[0].root.get("after").map(|node| node.kind.clone()), Some(Kind::Int(1)));
    assert!(!codes(&"[".repeat(100_000)).is_empty());
    assert!(!codes(&"{\"a\":".repeat(100_000)).is_empty());
    assert!(!codes(&"- ".repeat(10_000)).is_empty());
}

#[test]
fn a_mistake_in_one_document_does_not_hide_the_next() {
    let (documents, diagnostics) = parse(FileId(0), "a: 1\n---\nb: c: d\n---\ne: 2\n---\nf: 'x\n---\ng: 3\n");
    let roots: Vec<_> = documents.iter().map(|document| (document.index, document.root.to_json().to_string())).collect();
    assert_eq!(diagnostics.len(), 2, "{diagnostics:?}");
    assert_eq!(roots, [(0, r#"{"a":1}"#.to_owned()), (2, r#"{"e":2}"#.to_owned()), (4, r#"{"g":3}"#.to_owned())]);
}

#[test]
fn json_is_read_with_everything_yaml_refuses() {
    let text = "{\n\t\"a\": [1, -2.5, true, null, \"\\ud83d\\ude00\\/\"],\n\t\"b\": {}\n}\n{\"c\": 1e3}";
    assert_eq!(json(text), serde_json::json!([{"a": [1, -2.5, true, null, "😀/"], "b": {}}, {"c": 1000}]));
    assert_eq!(json("{a: b}"), serde_json::json!([{"a": "b"}]));
    assert_eq!(codes("{\"a\": 1,}x"), ["json-syntax"]);
    assert_eq!(codes("{\"a\": 1, \"a\": 2}"), ["yaml-duplicate-key"]);
}

#[test]
fn merges_do_not_override_and_first_sources_win() {
    let text = "base: &b {x: 1, y: 2}\nmore: &m {y: 3, z: 4}\nout:\n  <<: [*b, *m]\n  x: 9\n";
    assert_eq!(json(text)[0]["out"], serde_json::json!({"x": 9, "y": 2, "z": 4}));
    assert_eq!(codes("a:\n  <<: 1\n"), ["yaml-merge"]);
}

#[test]
fn whole_floats_become_whole_numbers_and_keys_become_text() {
    assert_eq!(json("1: 1.0\nyes: 08\n1.5: 1e3\n"), serde_json::json!([{"1": 1, "true": 8, "1.5": 1000}]));
}

#[test]
fn pointers_find_values_and_keys() {
    let text = "spec:\n  containers:\n  - name: é\n    image: nginx\n";
    let (documents, _) = parse(FileId(0), text);
    let root = &documents[0].root;
    let shown = |span: Option<strake_source::Span>| span.map(|span| &text[span.start as usize..span.end as usize]);
    assert_eq!(shown(root.span_at("/spec/containers/0/image")), Some("nginx"));
    assert_eq!(shown(root.key_span_at("/spec/containers/0/image")), Some("image"));
    assert_eq!(root.pointer("/spec/containers/1"), None);
    assert_eq!(shown(Some(root.nearest_span("/spec/containers/0/ports/0"))), Some("name: é\n    image: nginx"));
    assert_eq!(root.pointer("").map(|node| node.span), Some(root.span));
}

#[test]
fn wide_mappings_find_duplicates_too() {
    let mut text: String = (0..5_000).map(|index| format!("key{index}: {index}\n")).collect();
    text.push_str("key7: again\n");
    assert_eq!(codes(&text), ["yaml-duplicate-key"]);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_text_makes_it_panic(text in "[-a&*<:{}\\[\\] \t\n'\"|>#%!?,é0~\\\\.]{0,60}") {
        let (documents, diagnostics) = parse(FileId(0), &text);
        for document in documents {
            document.root.to_json();
        }
        for finding in diagnostics {
            let span = finding.span.expect("every finding has a place");
            prop_assert!(text.get(span.start as usize..span.end as usize).is_some());
        }
    }

    #[test]
    fn json_reads_as_serde_reads_it(value in value()) {
        let text = serde_json::json!({ "v": value }).to_string();
        let (documents, diagnostics) = parse(FileId(0), &text);
        prop_assert!(diagnostics.is_empty());
        let expected: serde_json::Value = serde_json::from_str(&text).expect("serde wrote it");
        prop_assert_eq!(documents[0].root.to_json(), expected);
    }
}

fn value() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![any::<i64>().prop_map(Into::into), any::<bool>().prop_map(Into::into), ".{0,8}".prop_map(Into::into), Just(serde_json::Value::Null)];
    leaf.prop_recursive(3, 20, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Into::into),
            prop::collection::btree_map(".{0,4}", inner, 0..4).prop_map(|map| serde_json::Value::Object(map.into_iter().collect())),
        ]
    })
}
