//! The functions by table, and what they refuse.

use super::{Host, find, names};
use crate::value::Value;
use crate::{File, Inputs};

/// What an expression gives, as JSON; or its finding.
pub(crate) fn evaluate(expression: &str) -> Result<String, String> {
    let text = format!("target \"t\" {{\n  args = {{\n    v = jsonencode({expression})\n  }}\n}}\n");
    let host = Host { now_s: 1_795_273_560, home: "/home/me".to_owned(), ..Host::default() };
    let inputs = Inputs { files: vec![File { name: "x.hcl".to_owned(), text }], host, ..Inputs::default() };
    let (config, findings) = crate::read(&mut strake_source::Sources::default(), &inputs);
    match findings.first() {
        Some(finding) => Err(finding.message.clone()),
        None => Ok(config.targets[0].args["v"].clone()),
    }
}

/// Expressions, and what they give as JSON.
const GIVEN: &[(&str, &str)] = &[
    ("absolute(-3)", "3"),
    ("add(1, \"2\")", "3"),
    ("and(true, false)", "false"),
    ("base64decode(base64encode(\"hi\"))", "\"hi\""),
    ("basename(\"/a/b/\")", "\"b\""),
    ("byteslen(\"Docker\")", "6"),
    ("bytesslice(\"Docker\", 1, 3)", "\"ock\""),
    ("can(parseint(\"zz\", 10))", "false"),
    ("ceil(1.2)", "2"),
    ("chomp(\"a\\n\\n\")", "\"a\""),
    ("chunklist([1, 2, 3], 2)", "[[1,2],[3]]"),
    ("cidrhost(\"10.1.2.240/28\", 1)", "\"10.1.2.241\""),
    ("cidrhost(\"10.1.2.240/28\", -1)", "\"10.1.2.255\""),
    ("cidrnetmask(\"10.0.0.0/12\")", "\"255.240.0.0\""),
    ("cidrsubnet(\"10.1.2.0/24\", 4, 15)", "\"10.1.2.240/28\""),
    ("cidrsubnet(\"fd00:fd12:3456:7890::/56\", 16, 162)", "\"fd00:fd12:3456:7800:a200::/72\""),
    ("cidrsubnets(\"10.0.0.0/16\", 4, 8, 4)", "[\"10.0.0.0/20\",\"10.0.16.0/24\",\"10.0.32.0/20\"]"),
    ("coalesce(null, \"a\")", "\"a\""),
    ("coalescelist([], [1])", "[1]"),
    ("compact([\"a\", \"\", \"b\"])", "[\"a\",\"b\"]"),
    ("concat([1], [2, 3])", "[1,2,3]"),
    ("contains([\"a\"], \"a\")", "true"),
    ("convert(\"42\", number)", "42"),
    ("convert([\"b\", \"a\", \"b\"], set(string))", "[\"a\",\"b\"]"),
    ("csvdecode(\"name,age\\nAlice,30\")", "[{\"age\":\"30\",\"name\":\"Alice\"}]"),
    ("dirname(\"/a/b/c\")", "\"/a/b\""),
    ("distinct([1, 1, 2])", "[1,2]"),
    ("divide(7, 2)", "3.5"),
    ("element([\"a\", \"b\"], 3)", "\"b\""),
    ("equal(\"a\", \"a\")", "true"),
    ("flatten([1, [2, [3]]])", "[1,2,3]"),
    ("floor(1.9)", "1"),
    ("format(\"%s-%03d-%5.1f|%-4s|%q %%\", \"a\", 7, 2.25, \"x\", \"y\")", "\"a-007-  2.2|x   |\\\"y\\\" %\""),
    ("format(\"%[2]s%[1]s\", \"a\", \"b\")", "\"ba\""),
    ("format(\"%v %v\", [1, \"a\"], true)", "\"[1,\\\"a\\\"] true\""),
    ("format(\"%x %o %b %e %g\", 255, 8, 5, 12.5, 0.5)", "\"ff 10 101 1.250000e+01 0.5\""),
    ("formatdate(\"DD MMM YYYY hh:mm ZZZ\", \"2018-01-02T23:12:01Z\")", "\"02 Jan 2018 23:12 UTC\""),
    ("formatdate(\"EEEE, DD-MMM-YY 'at' HH:mm AA Z\", \"2018-01-02T23:12:01-08:00\")", "\"Tuesday, 02-Jan-18 at 11:12 PM -08:00\""),
    ("formattimestamp(\"X\", \"2018-01-02T23:12:01Z\")", "\"1514934721\""),
    ("formattimestamp(\"YYYY-MM-DD\", 1690328596)", "\"2023-07-25\""),
    ("formatlist(\"%s-%d\", [\"a\", \"b\"], 1)", "[\"a-1\",\"b-1\"]"),
    ("greaterthan(2, 1)", "true"),
    ("hasindex([1], 1)", "false"),
    ("homedir()", "\"/home/me\""),
    ("indent(2, \"a\\nb\")", "\"a\\n  b\""),
    ("index({a = 1}, \"a\")", "1"),
    ("indexof([\"a\", \"b\"], \"b\")", "1"),
    ("int(-1.7)", "-1"),
    ("join(\"-\", [\"a\", 1], [true])", "\"a-1-true\""),
    ("jsondecode(\"{\\\"a\\\": [1, null]}\")", "{\"a\":[1,null]}"),
    ("keys({b = 1, a = 2})", "[\"a\",\"b\"]"),
    ("length([1, 2])", "2"),
    ("log(8, 2)", "3"),
    ("lookup({a = 1}, \"b\", 5)", "5"),
    ("lower(\"ÄB\")", "\"äb\""),
    ("max([1, 5, 3]...)", "5"),
    ("md5(\"hello\")", "\"5d41402abc4b2a76b9719d911017c592\""),
    ("merge({a = 1, b = 2}, null, {b = 3})", "{\"a\":1,\"b\":3}"),
    ("modulo(7, 3)", "1"),
    ("not(false)", "true"),
    ("parseint(\"ff\", 16)", "255"),
    ("pow(2, 10)", "1024"),
    ("range(1, 7, 2)", "[1,3,5]"),
    ("range(3)", "[0,1,2]"),
    ("regex(\"(\\\\d+)-(\\\\w+)\", \"x 12-ab\")", "[\"12\",\"ab\"]"),
    ("regex(\"[a-z]+\", \"12ab\")", "\"ab\""),
    ("regex(\"(?P<n>\\\\d+)\", \"a1\")", "{\"n\":\"1\"}"),
    ("regexall(\"[a-z]\", \"a1b\")", "[\"a\",\"b\"]"),
    ("regex_replace(\"a-b\", \"(\\\\w)-(\\\\w)\", \"$2-$1\")", "\"b-a\""),
    ("replace(\"a.b\", \".\", \"_\")", "\"a_b\""),
    ("reverse(\"abc\")", "\"cba\""),
    ("reverselist([1, 2])", "[2,1]"),
    ("sanitize(\"a.b/c\")", "\"a_b_c\""),
    ("semvercmp(\"1.4.2\", \"~1.4\")", "true"),
    ("setintersection([\"a\", \"b\"], [\"b\"])", "[\"b\"]"),
    ("setproduct([\"a\"], [1, 2])", "[[\"a\",1],[\"a\",2]]"),
    ("setsubtract([\"a\", \"b\"], [\"b\"])", "[\"a\"]"),
    ("setsymmetricdifference([1, 2], [2, 3])", "[1,3]"),
    ("setunion([\"b\"], [\"a\", \"b\"])", "[\"a\",\"b\"]"),
    ("sha1(\"hello\")", "\"aaf4c61ddcc5e8a2dabede0f3b482cd9aea9434d\""),
    ("substr(sha256(\"hello\"), 0, 8)", "\"2cf24dba\""),
    ("substr(sha512(\"hello\"), 0, 8)", "\"9b71d224\""),
    ("signum(-12)", "-1"),
    ("slice([\"a\", \"b\", \"c\", \"d\"], 1, 3)", "[\"b\",\"c\"]"),
    ("sort([\"b\", \"c\", \"a\"])", "[\"a\",\"b\",\"c\"]"),
    ("split(\",\", \"a,b\")", "[\"a\",\"b\"]"),
    ("strlen(\"Döcker\")", "6"),
    ("substr(\"abcdef\", -2, -1)", "\"ef\""),
    ("timeadd(\"2025-09-24T12:00:00Z\", \"1h30m\")", "\"2025-09-24T13:30:00Z\""),
    ("timestamp()", "\"2026-11-21T15:06:00Z\""),
    ("title(\"hello world-from\")", "\"Hello World-From\""),
    ("trim(\"--hello--\", \"-\")", "\"hello\""),
    ("trimprefix(\"docker-build\", \"docker-\")", "\"build\""),
    ("trimspace(\"  a \")", "\"a\""),
    ("trimsuffix(\"a.txt\", \".txt\")", "\"a\""),
    ("try(parseint(\"zz\", 16), parseint(\"ff\", 16))", "255"),
    ("unixtimestampparse(1690328596).rfc3339", "\"2023-07-25T23:43:16Z\""),
    ("unixtimestampparse(1690328596).weekday_name", "\"Tuesday\""),
    ("urlencode(\"a b=c&d\")", "\"a+b%3Dc%26d\""),
    ("uuidv5(\"dns\", \"www.example.com\")", "\"2ed6657d-e927-568b-95e1-2665a8aea6a2\""),
    ("strlen(uuidv4())", "36"),
    ("uuidv4() == uuidv4()", "false"),
    ("values({a = 1, c = 3, b = 2})", "[1,2,3]"),
    ("zipmap([\"name\", \"stars\"], [\"Docker\", 5])", "{\"name\":\"Docker\",\"stars\":5}"),
];

#[test]
fn what_functions_give() {
    for (expression, expected) in GIVEN {
        assert_eq!(evaluate(expression).as_deref(), Ok(*expected), "{expression}");
    }
}

#[test]
fn what_functions_refuse() {
    for (expression, said) in [
        ("add(1)", "add: expected 2 arguments, found 1"),
        ("add(1, null)", "argument 2 must not be null"),
        ("add(1, \"x\")", "argument 2 is text, expected a number"),
        ("divide(1, 0)", "division by zero"),
        ("bcrypt(\"x\")", "not supported"),
        ("rsadecrypt(\"x\", \"y\")", "not supported"),
        ("regex(\"(\", \"x\")", "cannot be read"),
        ("regex(\"b\", \"x\")", "did not match"),
        ("semvercmp(\"x\", \"1\")", "no version"),
        ("formatdate(\"Q\", \"2018-01-02T23:12:01Z\")", "no date verb"),
        ("range(0, 10, -1)", "must lead"),
        ("element([], 0)", "empty"),
        ("format(\"%d\", \"x\")", "%d wants a number"),
        ("format(\"%s\")", "wants argument 1"),
        ("format(\"a\", 1)", "1 arguments for 0 verbs"),
        ("cidrsubnet(\"10.0.0.0/30\", 4, 1)", "do not fit"),
        ("coalesce(null)", "every argument is null"),
        ("lookup({a = 1}, \"b\")", "no key"),
        ("uperr(\"x\")", "no function `uperr`"),
        ("a::b(1)", "no namespaces"),
    ] {
        let found = evaluate(expression).expect_err(expression);
        assert!(found.contains(said), "{expression}: {found}");
    }
}

#[test]
fn versions_and_constraints() {
    for (version, constraint, expected) in [
        ("1.2.3", "1.2.3", true),
        ("v1.2.3", "= 1.2", true),
        ("1.3.0", ">= 1.2, < 2", true),
        ("1.3.0", ">=1.2 <1.3", false),
        ("2.0.0", "^1.2", false),
        ("1.9.9", "^1.2", true),
        ("0.3.1", "^0.3.0", true),
        ("0.4.0", "^0.3.0", false),
        ("0.0.4", "^0.0.3", false),
        ("1.4.9", "~1.4", true),
        ("1.5.0", "~1.4.1", false),
        ("1.9.0", "~1", true),
        ("1.5.0", "1.x", true),
        ("2.5.0", "1.* || 2.*", true),
        ("1.3.0", "1.2 - 1.4", true),
        ("1.4.5", "1.2 - 1.4", true),
        ("1.2.3-rc.1", ">= 1.2", false),
        ("1.2.3-rc.2", "> 1.2.3-rc.1", true),
        ("1.2.3", "!= 1.2.3", false),
        ("1.2.4", "!= 1.2.3", true),
        ("3.0.0", "*", true),
        ("1.2.9", "> 1.2", false),
        ("1.3.0", "> 1.2", true),
        ("1.2.3+build5", "1.2.3", true),
    ] {
        assert_eq!(super::semver::satisfies(version, constraint), Ok(expected), "{version} {constraint}");
    }
}

/// The table has no name twice, and answers to nonsense without a panic.
#[test]
fn nonsense_is_refused_and_not_a_panic() {
    let values = [
        Value::Null,
        Value::from(""),
        Value::from("-1"),
        Value::from(-1.0),
        Value::from(1e300),
        Value::from(0.5),
        Value::List(vec![]),
        Value::Object(Default::default()),
    ];
    let mut seen = std::collections::BTreeSet::new();
    for name in names() {
        assert!(seen.insert(name), "{name} is there twice");
        let Some(function) = find(name) else { continue };
        for a in &values {
            for b in &values {
                for arguments in [vec![a.clone()], vec![a.clone(), b.clone()], vec![a.clone(), b.clone(), a.clone()], vec![b.clone(), a.clone(), b.clone()]] {
                    let _ = function.call(&arguments, &Host::default());
                }
            }
        }
    }
    assert_eq!(seen.len(), 106);
}
