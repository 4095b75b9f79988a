//! Custom resources by their definition, and definitions themselves.

use serde_json::{Value, json};
use strake_kinds::structural::{self, Definition};
use strake_kinds::{by_kind, validate};

fn root(spec: &Value) -> Value {
    json!({"type": "object", "properties": {"spec": spec, "status": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}}})
}

/// What is wrong with a specification, a line each.
fn found(schema: &Value, spec: &Value) -> Vec<String> {
    let object = json!({"apiVersion": "example.org/v1", "kind": "Widget", "metadata": {"name": "w", "namespace": "default"}, "spec": spec});
    let found = structural::check(&object, &root(schema));
    let fields = found.fields.iter().map(ToString::to_string);
    let left = found.left.iter().map(|left| format!("{} is left: {}", left.path, left.rule));
    fields.chain(found.invalid.iter().map(ToString::to_string)).chain(left).collect()
}

fn one(field: &Value, value: &Value) -> String {
    found(&json!({"type": "object", "properties": {"f": field}}), &json!({"f": value})).join(" | ")
}

#[test]
fn values_are_checked_as_a_server_checks_them() {
    let wrong: &[(Value, Value, &str)] = &[
        (json!({"type": "integer"}), json!("1"), "found a string, expected an integer"),
        (json!({"type": "integer"}), json!(1.5), "found a fraction, expected an integer"),
        (json!({"type": "boolean"}), json!("yes"), "expected a boolean"),
        (json!({"type": "array", "items": {"type": "string"}}), json!(["a", 1]), "spec.f[1]: found a number, expected a string"),
        (json!({"x-kubernetes-int-or-string": true}), json!(true), "expected an integer or a string"),
        (json!({"type": "string", "enum": ["small", "large"]}), json!("smal"), "expected one of small, large; did you mean small?"),
        (json!({"type": "string", "pattern": "^[a-z]+$"}), json!("A"), "must match `^[a-z]+$`"),
        (json!({"type": "string", "minLength": 2}), json!("ä"), "has 1 characters, must have at least 2"),
        (json!({"type": "string", "maxLength": 1}), json!("ab"), "may have at most 1"),
        (json!({"type": "integer", "minimum": 1, "maximum": 5}), json!(6), "must be at most 5"),
        (json!({"type": "number", "minimum": 0, "exclusiveMinimum": true}), json!(0), "must be greater than 0"),
        (json!({"type": "integer", "multipleOf": 4}), json!(6), "must be a multiple of 4"),
        (json!({"type": "array", "minItems": 1, "items": {"type": "string"}}), json!([]), "has 0 items, must have at least 1"),
        (json!({"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "string"}}), json!(["a", "b", "a"]), "spec.f[2]: Duplicate value"),
        (
            json!({"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name", "port"], "items": {"type": "object",
                "properties": {"name": {"type": "string"}, "port": {"type": "integer", "default": 80}}}}),
            json!([{"name": "a"}, {"name": "a", "port": 80}, {"name": "a", "port": 81}]),
            "spec.f[1]: Duplicate value: an item before it has name=\"a\", port=80",
        ),
        (json!({"type": "object", "additionalProperties": {"type": "integer"}}), json!({"a": 1, "b": "2"}), "spec.f[b]: found a string"),
        (json!({"type": "object", "maxProperties": 1, "additionalProperties": {"type": "integer"}}), json!({"a": 1, "b": 2}), "has 2 fields"),
        (json!({"type": "object", "required": ["a"], "properties": {"a": {"type": "string"}}}), json!({}), "missing required field \"spec.f.a\""),
        (json!({"type": "object", "properties": {"replicas": {"type": "integer"}}}), json!({"replica": 1}), "unknown field \"spec.f.replica\""),
        (
            json!({"type": "object", "oneOf": [{"required": ["a"]}, {"required": ["b"]}], "properties": {"a": {"type": "string"}, "b": {"type": "string"}}}),
            json!({"a": "", "b": ""}),
            "is of 2 of the possible forms (a; b)",
        ),
        (json!({"type": "integer", "anyOf": [{"maximum": 1}, {"minimum": 5}]}), json!(3), "is of none of the 2 possible forms"),
        (json!({"type": "integer", "not": {"enum": [3]}}), json!(3), "is of a form that is ruled out"),
        (json!({"type": "integer", "allOf": [{"maximum": 1}]}), json!(3), "must be at most 1"),
        (
            json!({"type": "object", "x-kubernetes-embedded-resource": true, "x-kubernetes-preserve-unknown-fields": true}),
            json!({"kind": "Pod", "metadata": {"lables": {}}}),
            "unknown field \"spec.f.metadata.lables\" | missing required field \"spec.f.apiVersion\"",
        ),
        (json!({"type": "string"}), json!([]), "found a list, expected a string"),
        (json!({"type": "array", "items": {"type": "string"}}), json!([null]), "spec.f[0]: found null"),
    ];
    for (schema, value, expected) in wrong {
        let said = one(schema, value);
        assert!(said.contains(expected), "{schema} of {value}: {said}");
        assert_eq!(said.matches(" | ").count(), expected.matches(" | ").count(), "{schema} of {value}: {said}");
    }
    let fine: &[(Value, Value)] = &[
        (json!({"type": "integer"}), json!(1.0)),
        (json!({"type": "integer", "format": "int64"}), json!(5_000_000_000_i64)),
        (json!({"x-kubernetes-int-or-string": true, "anyOf": [{"type": "integer"}, {"type": "string"}]}), json!("50%")),
        (json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true, "properties": {"a": {"type": "integer"}}}), json!({"a": 1, "b": [1]})),
        (json!({"type": "object", "additionalProperties": true}), json!({"anything": [1]})),
        (json!({"type": "string", "nullable": true}), json!(null)),
        (json!({"type": "string"}), json!(null)),
        (json!({"type": "string", "enum": ["a"], "format": "of-its-own"}), json!("a")),
    ];
    for (schema, value) in fine {
        assert_eq!(one(schema, value), "", "{schema} of {value}");
    }
}

#[test]
fn formats_are_those_of_the_server() {
    let formats: &[(&str, &[&str], &[&str])] = &[
        ("date-time", &["2026-01-31T12:00:00Z", "2026-01-31T12:00:00.5+01:00"], &["2026-01-31", "noon"]),
        ("date", &["2026-01-31"], &["2026-02-31", "31.1.2026"]),
        ("ipv4", &["10.0.0.1"], &["10.0.0.256", "::1"]),
        ("ipv6", &["::1"], &["10.0.0.1"]),
        ("cidr", &["10.0.0.0/8", "fd00::/64"], &["10.0.0.0", "10.0.0.0/33"]),
        ("mac", &["02:00:5e:10:00:01"], &["02:00:5e"]),
        ("uri", &["https://example.org/a", "/a"], &["example", "a b:c"]),
        ("email", &["a@example.org"], &["a", "@b"]),
        ("uuid", &["6ba7b810-9dad-11d1-80b4-00c04fd430c8"], &["6ba7b810"]),
        ("byte", &["aGVsbG8="], &["a*"]),
        ("duration", &["1h30m", "2 days", "1.5s", "0"], &["soon", "1", "5x"]),
        ("hostname", &["a.example.org"], &["a_b"]),
    ];
    for (format, right, wrong) in formats {
        let schema = json!({"type": "string", "format": format});
        right.iter().for_each(|text| assert_eq!(one(&schema, &json!(text)), "", "{format} {text}"));
        wrong.iter().for_each(|text| assert!(one(&schema, &json!(text)).contains("must be "), "{format} {text}"));
    }
    assert!(one(&json!({"type": "integer", "format": "int32"}), &json!(5_000_000_000_i64)).contains("32-bit"));
}

#[test]
fn defaults_come_before_the_checks() {
    let schema = json!({"type": "object", "required": ["size"], "properties": {
        "size": {"type": "integer", "default": 3},
        "deep": {"type": "object", "default": {}, "properties": {"a": {"type": "string", "default": "x"}}},
        "absent": {"type": "object", "properties": {"a": {"type": "string", "default": "x"}}},
        "none": {"type": "string"},
        "list": {"type": "array", "items": {"type": "object", "properties": {"a": {"type": "string", "default": "x"}}}},
    }});
    assert_eq!(found(&schema, &json!({})), Vec::<String>::new());
    let mut spec = json!({"size": null, "none": null, "list": [{}, {"a": "y"}]});
    structural::fill(&mut spec, &schema);
    assert_eq!(spec, json!({"size": 3, "deep": {"a": "x"}, "list": [{"a": "x"}, {"a": "y"}]}));
}

#[test]
fn rules_are_evaluated_or_left_to_the_server_by_name() {
    let schema = |rule: &str, more: Value| {
        let mut validation = json!({"rule": rule});
        more.as_object().unwrap().iter().for_each(|(name, value)| validation[name] = value.clone());
        json!({"type": "object", "x-kubernetes-validations": [validation], "properties": {
            "min": {"type": "integer"}, "max": {"type": "integer"}, "a-b": {"type": "string"}, "names": {"type": "array", "items": {"type": "string"}},
            "name": {"type": "string"}, "in": {"type": "string"}}})
    };
    let said = |rule: &str, spec: Value| found(&schema(rule, json!({})), &spec).join(" | ");
    assert_eq!(said("self.min <= self.max", json!({"min": 1, "max": 2})), "");
    assert_eq!(said("self.min <= self.max", json!({"min": 3, "max": 2})), "spec: Invalid value: the rule `self.min <= self.max` is not met");
    assert_eq!(said("has(self.name) || has(self.min)", json!({"max": 1})), "spec: Invalid value: the rule `has(self.name) || has(self.min)` is not met");
    assert_eq!(said("self.a__dash__b == 'x' && self.__in__ == 'y'", json!({"a-b": "x", "in": "y"})), "");
    assert_eq!(said("self.names.all(n, n.startsWith('x-'))", json!({"names": ["x-a", "b"]})).matches("is not met").count(), 1);
    assert_eq!(said("size(self.names) == 2 && self.names.exists(n, n == 'b')", json!({"names": ["a", "b"]})), "");
    // A change is none yet, and what is not known here is nobody's mistake.
    assert_eq!(said("self.min == oldSelf.min", json!({"min": 1})), "");
    assert_eq!(
        said("quantity(self.name).isGreaterThan(quantity('1'))", json!({"name": "2"})),
        "spec is left: quantity(self.name).isGreaterThan(quantity('1'))"
    );
    assert!(said("self.min ===", json!({"min": 1})).contains("is left"));
    assert!(said("self.min > 1", json!({"max": 1})).contains("is left"));
    let placed = schema("self.min > 1", json!({"message": "too small", "fieldPath": ".min"}));
    assert_eq!(found(&placed, &json!({"min": 1})), ["spec.min: Invalid value: too small"]);
    let time =
        json!({"type": "object", "x-kubernetes-validations": [{"rule": "self.at == 'x'"}], "properties": {"at": {"type": "string", "format": "duration"}}});
    assert!(found(&time, &json!({"at": "1h"})).join("").contains("is left"), "a duration is no text in a rule");
}

fn crd() -> Value {
    json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": {"name": "widgets.example.org"}, "spec": {
        "group": "example.org", "scope": "Namespaced", "names": {"kind": "Widget", "plural": "widgets", "singular": "widget", "listKind": "WidgetList"},
        "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": root(&json!({"type": "object", "properties": {
            "port": {"x-kubernetes-int-or-string": true, "anyOf": [{"type": "integer"}, {"type": "string"}]},
            "raw": {"x-kubernetes-preserve-unknown-fields": true},
            "size": {"type": "integer", "default": 1},
            "list": {"type": "array", "items": {"type": "object", "required": ["name"], "properties": {"name": {"type": "string"}}},
                "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]}}}))}}],
    }})
}

#[test]
fn definitions_are_checked_with_the_servers_words() {
    let kind = by_kind("apiextensions.k8s.io/v1", "CustomResourceDefinition").unwrap();
    let said = |object: &Value| validate::object(object, kind).iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
    assert_eq!(said(&crd()), "");
    let defined = Definition::of(&crd()).unwrap();
    assert_eq!((defined.plural.as_str(), defined.namespaced, defined.version("v1").is_some()), ("widgets", true, true));
    let schema = "/spec/versions/0/schema/openAPIV3Schema";
    let spec = "/spec/versions/0/schema/openAPIV3Schema/properties/spec";
    let edits: &[(&str, Value, &str)] = &[
        ("/metadata/name", json!("widget.example.org"), "metadata.name: Invalid value: \"widget.example.org\": must be spec.names.plural+\".\"+spec.group"),
        ("/spec/group", json!("example"), "should be a domain with at least one dot"),
        ("/spec/scope", json!("Namespace"), "spec.scope: Unsupported value: \"Namespace\""),
        ("/spec/names/listKind", json!("Widget"), "kind and listKind may not be the same"),
        ("/spec/names/plural", json!("Widgets"), "spec.names.plural: Invalid value"),
        ("/spec/versions/0/storage", json!(false), "must have exactly one version marked as storage version"),
        ("/spec/versions/0/schema", json!({}), "spec.versions[0].schema.openAPIV3Schema: Required value: schemas are required"),
        (&format!("{schema}/type"), json!("array"), "must be object at the root"),
        (&format!("{spec}/type"), json!(null), "properties[spec].type: Required value"),
        (&format!("{spec}/type"), json!("text"), "Unsupported value: \"text\""),
        (&format!("{spec}/properties/size/default"), json!("x"), "properties[size].default: Invalid value"),
        (&format!("{spec}/properties/list/items"), json!(null), "properties[list].items: Required value: must be specified"),
        (&format!("{spec}/properties/list/items/required"), json!([]), "must have a default or be a required property"),
        (&format!("{spec}/additionalProperties"), json!({"type": "string"}), "additionalProperties and properties are mutual exclusive"),
        (&format!("{spec}/uniqueItems"), json!(true), "uniqueItems cannot be set to true"),
        (&format!("{spec}/$ref"), json!("#/x"), "$ref is not supported"),
        (&format!("{spec}/allOf"), json!([{"type": "object"}]), "allOf[0].type: Forbidden: must be empty to be structural"),
        (&format!("{spec}/properties/size/pattern"), json!("("), "must be a regular expression"),
        (&format!("{schema}/properties/metadata"), json!({"type": "object", "properties": {"labels": {"type": "object"}}}), "other than name and generateName"),
    ];
    for (pointer, value, expected) in edits {
        let mut object = crd();
        let (above, name) = pointer.rsplit_once('/').unwrap();
        object.pointer_mut(above).unwrap()[name] = value.clone();
        assert!(said(&object).contains(expected), "{pointer} = {value}: {}", said(&object));
    }
    let mut twice = crd();
    let version = twice["spec"]["versions"][0].clone();
    twice["spec"]["versions"].as_array_mut().unwrap().push(version);
    assert!(said(&twice).contains("must contain unique version names") && said(&twice).contains("exactly one version marked as storage version, 2 are"));
}

#[test]
fn rules_about_a_change_are_evaluated_where_it_is_known_what_was_before() {
    let schema = json!({"type": "object", "properties": {"spec": {"type": "object",
        "x-kubernetes-validations": [
            {"rule": "self.size >= oldSelf.size", "message": "may not shrink"},
            {"rule": "!has(oldSelf.x) || has(self.x)", "optionalOldSelf": true}],
        "properties": {
            "size": {"type": "integer"},
            "class": {"type": "string", "x-kubernetes-validations": [{"rule": "self == oldSelf", "message": "cannot be changed"}]},
            "labels": {"type": "object", "additionalProperties": {"type": "string", "x-kubernetes-validations": [{"rule": "self == oldSelf"}]}},
            "pools": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["zone"], "items": {"type": "object",
                "properties": {"zone": {"type": "string"}, "size": {"type": "integer", "x-kubernetes-validations": [{"rule": "self >= oldSelf"}]}}}},
            "open": {"type": "array", "items": {"type": "string", "x-kubernetes-validations": [{"rule": "self == oldSelf"}]}}}}}});
    let object = |spec: Value| json!({"apiVersion": "example.org/v1", "kind": "Widget", "metadata": {"name": "w"}, "spec": spec});
    let old = object(json!({"size": 3, "class": "a", "labels": {"k": "1"}, "pools": [{"zone": "a", "size": 2}, {"zone": "b", "size": 2}], "open": ["x"]}));
    let told = |spec: Value| -> Vec<String> {
        let found = strake_kinds::structural::check_change(&old, &object(spec), &schema);
        found.invalid.iter().map(|finding| format!("{}: {}", finding.path, finding.message)).collect()
    };
    assert_eq!(
        told(json!({"size": 3, "class": "a", "labels": {"k": "1", "new": "2"}, "pools": [{"zone": "b", "size": 2}, {"zone": "c", "size": 0}], "open": ["y"]})),
        [""; 0]
    );
    let wrong = told(json!({"size": 2, "class": "b", "labels": {"k": "2"}, "pools": [{"zone": "b", "size": 1}], "open": ["y"]}));
    let expected = [
        "spec.class: cannot be changed",
        "spec.labels[k]: the rule `self == oldSelf` is not met",
        "spec.pools[0].size: the rule `self >= oldSelf` is not met",
        "spec: may not shrink",
    ];
    assert_eq!(wrong, expected);
    // A first one has nothing before it; and a field that is new has neither.
    assert_eq!(strake_kinds::structural::check(&object(json!({"size": 1, "class": "z"})), &schema).invalid, []);
    let bare = object(json!({"size": 1}));
    assert_eq!(strake_kinds::structural::check_change(&bare, &object(json!({"size": 1, "class": "z"})), &schema).invalid, []);
    // What cannot be said here is left to the server, by name.
    let left = strake_kinds::structural::check_change(&old, &old, &schema).left;
    assert!(left.iter().any(|left| left.why.contains("optional")), "{left:?}");
}
