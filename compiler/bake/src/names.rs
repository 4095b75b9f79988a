//! What the names of a bake file mean: variables, global attributes, functions, and attributes of other blocks, each evaluated when it is first asked for.

use std::cell::RefCell;
use std::collections::BTreeMap;

use strake_source::{Diagnostic, Span};

use crate::body::{Attribute, Block, Body, Expr};
use crate::expr::{Eval, Evaluator, Names, Scope, wrong};
use crate::functions::Host;
use crate::types::{Type, from_environment};
use crate::value::Value;
use crate::{Inputs, Variable};

/// A target or group with the name it has in the end; a matrix makes several of one block.
#[derive(Clone, Debug)]
pub(crate) struct Named<'a> {
    pub(crate) name: String,
    pub(crate) block: &'a Block<'a>,
    /// The values of the matrix.
    pub(crate) matrix: BTreeMap<String, Value>,
}

/// What is known of a name: that it is being evaluated, or what it is.
type Known<K> = RefCell<BTreeMap<K, Option<Eval<Value>>>>;

/// The names of all files.
pub(crate) struct Definitions<'a> {
    inputs: &'a Inputs,
    pub(crate) variables: BTreeMap<&'a str, &'a Block<'a>>,
    attributes: BTreeMap<&'a str, Attribute<'a>>,
    functions: BTreeMap<&'a str, &'a Block<'a>>,
    /// Targets and groups, once their names are known.
    pub(crate) blocks: Vec<Named<'a>>,
    values: Known<String>,
    block_values: Known<(String, String, String)>,
    /// Functions that are being called.
    calls: RefCell<Vec<String>>,
}

impl<'a> Definitions<'a> {
    pub(crate) fn new(inputs: &'a Inputs, body: &'a Body<'a>, diagnostics: &mut Vec<Diagnostic>) -> Self {
        let mut definitions = Definitions {
            inputs,
            variables: BTreeMap::new(),
            attributes: BTreeMap::new(),
            functions: BTreeMap::new(),
            blocks: Vec::new(),
            values: RefCell::default(),
            block_values: RefCell::default(),
            calls: RefCell::default(),
        };
        // What comes later takes the place of what has the same name.
        for block in &body.blocks {
            match block.kind {
                "variable" => drop(definitions.variables.insert(block.label, block)),
                "function" => drop(definitions.functions.insert(block.label, block)),
                _ => {}
            }
        }
        definitions.attributes.extend(body.attributes.iter().map(|attribute| (attribute.name, *attribute)));
        for builtin in builtins(inputs) {
            definitions.variables.remove(builtin.0);
            definitions.attributes.remove(builtin.0);
        }
        definitions.check_shapes(diagnostics);
        definitions
    }

    /// Attributes that variables and functions do not have, or must have.
    fn check_shapes(&self, diagnostics: &mut Vec<Diagnostic>) {
        const VARIABLE: [&str; 3] = ["default", "type", "description"];
        const FUNCTION: [&str; 3] = ["params", "variadic_params", "result"];
        const VALIDATION: [&str; 2] = ["condition", "error_message"];
        for block in self.variables.values() {
            unknown_attributes(block, &VARIABLE, diagnostics);
            for rule in &block.blocks {
                if rule.kind == "validation" {
                    unknown_attributes(rule, &VALIDATION, diagnostics);
                    missing_attributes(rule, &VALIDATION, diagnostics);
                } else {
                    diagnostics
                        .push(Diagnostic::error("bake-unknown-block", format!("a variable has no block `{}`, only validation", rule.kind)).at(rule.span));
                }
            }
        }
        for block in self.functions.values() {
            unknown_attributes(block, &FUNCTION, diagnostics);
            missing_attributes(block, &["params", "result"], diagnostics);
        }
    }

    /// Evaluates everything that has a global name, checks the variables, and lists them.
    pub(crate) fn finish(&self, diagnostics: &mut Vec<Diagnostic>) -> Vec<Variable> {
        let mut listed = Vec::new();
        for (name, block) in &self.variables {
            let value = self.variable(name, block.span);
            let constraint = self.constraint(block).unwrap_or(None);
            let description = self.attribute_text(block, "description").unwrap_or_default();
            let shown = value.as_ref().ok().and_then(|value| shown(value, constraint.as_ref()));
            listed.push(Variable { name: (*name).to_owned(), description, kind: constraint.map(|kind| kind.to_string()), value: shown });
            match value {
                Ok(_) => block.blocks.iter().for_each(|rule| self.validate(rule, diagnostics)),
                Err(finding) => diagnostics.push(*finding),
            }
        }
        for (name, attribute) in &self.attributes {
            diagnostics.extend(self.variable(name, attribute.name_span).err().map(|finding| *finding));
        }
        listed
    }

    fn validate(&self, rule: &Block<'a>, diagnostics: &mut Vec<Diagnostic>) {
        let (Some(condition), Some(message)) = (rule.get("condition"), rule.get("error_message")) else { return };
        let scope = Scope::default();
        let span = condition.value.span();
        let checked = condition.value.value(self, &scope).map(|value| value.to_bool().ok_or_else(|| value.kind()));
        let finding = match checked {
            Ok(Ok(true)) => return,
            Ok(Ok(false)) => {
                let said = message.value.value(self, &scope).ok().and_then(|value| value.to_text());
                Diagnostic::error("bake-validation", said.unwrap_or_else(|| "a condition of the variable is not met".to_owned())).at(span)
            }
            Ok(Err(found)) => Diagnostic::error("bake-value", format!("a condition is true or false, and this is {found}")).at(span),
            Err(finding) => *finding,
        };
        diagnostics.push(finding);
    }

    /// The text of a block's attribute; nothing when it has none.
    fn attribute_text(&self, block: &Block<'a>, name: &str) -> Eval<String> {
        let Some(attribute) = block.get(name) else { return Ok(String::new()) };
        let value = attribute.value.value(self, &Scope::default())?;
        value.to_text().map_or_else(|| wrong("bake-value", format!("`{name}` is text, and this is {}", value.kind()), attribute.value.span()), Ok)
    }

    /// The type that a variable is declared with.
    fn constraint(&self, block: &Block<'a>) -> Eval<Option<Type>> {
        match block.get("type").map(|attribute| attribute.value) {
            None => Ok(None),
            Some(Expr::Hcl(place, expression)) => Evaluator { names: self, place }.constraint(expression).map(Some),
            Some(Expr::Json(node)) => {
                let text = node.as_str().unwrap_or_default();
                let Ok(expression) = text.parse::<hcl_edit::expr::Expression>() else {
                    return wrong("bake-value", "expected a type such as string, number, bool or list(string)", node.span);
                };
                let place = crate::expr::Place { file: node.span.file, fixed: Some(node.span) };
                Evaluator { names: self, place }.constraint(&expression).map(Some)
            }
        }
    }

    fn look_up(&self, name: &str) -> Option<&'a str> {
        self.inputs.variables.get(name).or_else(|| self.inputs.environment.get(name)).map(String::as_str)
    }

    /// A value from outside, and whether it is JSON: `NAME_JSON` is, unless it is a variable itself.
    fn given(&self, name: &str, typed: bool) -> Option<(&'a str, bool)> {
        let plain = self.look_up(name);
        if plain.is_none() || typed {
            let other = format!("{name}_JSON");
            if !self.variables.contains_key(other.as_str())
                && let Some(json) = self.look_up(&other)
            {
                return Some((json, true));
            }
        }
        plain.map(|text| (text, false))
    }

    fn evaluate(&self, name: &str, span: Span) -> Eval<Value> {
        if let Some((_, value)) = builtins(self.inputs).into_iter().find(|(builtin, _)| *builtin == name) {
            return Ok(Value::from(value));
        }
        let (attribute, block) = (self.attributes.get(name), self.variables.get(name));
        if attribute.is_none() && block.is_none() {
            let mut finding = Diagnostic::error("bake-unknown-variable", format!("there is no variable `{name}`")).at(span);
            let names = self.variables.keys().chain(self.attributes.keys()).copied().chain(builtins(self.inputs).map(|(name, _)| name));
            finding.help.extend(strake_source::nearest(name, names).map(|near| format!("did you mean `{near}`?")));
            return Err(Box::new(finding));
        }
        let wanted = if attribute.is_some() { None } else { block.map(|block| self.constraint(block)).transpose()?.flatten() };
        let default = attribute.copied().or_else(|| block.and_then(|block| block.get("default")));
        let value = match default {
            Some(default) => {
                let value = default.value.value(self, &Scope::default())?;
                let convert =
                    |wanted: &Type| wanted.convert(&value).or_else(|why| wrong("bake-value", format!("the default of `{name}`: {why}"), default.value.span()));
                Some(wanted.as_ref().map(convert).transpose()?.unwrap_or(value))
            }
            None => None,
        };
        let given = if block.is_some() { self.given(name, wanted.is_some()) } else { None };
        let Some((text, is_json)) = given else {
            // Without a type, nothing is the empty text.
            return Ok(value.unwrap_or(if wanted.is_some() { Value::Null } else { Value::from("") }));
        };
        let place = block.map_or(span, |block| block.span);
        outside(name, text, is_json, wanted.as_ref(), value.as_ref())
            .or_else(|why| wrong("bake-value", format!("the value given for the variable `{name}`: {why}"), place))
    }

    fn call_user(&self, block: &Block<'a>, arguments: &[Value], span: Span) -> Eval<Value> {
        let (Some(params), Some(result)) = (block.get("params"), block.get("result")) else {
            return wrong("bake-value", format!("the function `{}` has no params or no result", block.label), span);
        };
        let names = params.value.items().map(|items| items.into_iter().map(Expr::name).collect::<Option<Vec<_>>>());
        let Some(Some(names)) = names else { return wrong("bake-value", "params is a list of names", params.value.span()) };
        let variadic = block.get("variadic_params");
        if arguments.len() < names.len() || (variadic.is_none() && arguments.len() > names.len()) {
            let more = if variadic.is_some() { " or more" } else { "" };
            return wrong("bake-value", format!("{}: expected {}{more} arguments, found {}", block.label, names.len(), arguments.len()), span);
        }
        let mut scope = Scope::default();
        scope.values.extend(names.iter().map(|name| (*name).to_owned()).zip(arguments.iter().cloned()));
        if let Some(variadic) = variadic {
            let Some(name) = variadic.value.name() else { return wrong("bake-value", "variadic_params is a name", variadic.value.span()) };
            scope.values.insert(name.to_owned(), Value::List(arguments[names.len()..].to_vec()));
        }
        if self.calls.borrow().iter().any(|name| name == block.label) {
            return wrong("bake-cycle", format!("the function `{}` calls itself", block.label), span);
        }
        self.calls.borrow_mut().push(block.label.to_owned());
        let value = result.value.value(self, &scope);
        self.calls.borrow_mut().pop();
        value
    }

    /// The attribute of the last block of that name that sets it.
    fn block_attribute(&self, kind: &str, name: &str, attribute: &str, span: Span) -> Eval<Value> {
        let blocks: Vec<&Named<'a>> = self.blocks.iter().filter(|named| named.block.kind == kind && named.name == name).collect();
        if blocks.is_empty() {
            let mut finding = Diagnostic::error("bake-unknown-target", format!("there is no {kind} `{name}`")).at(span);
            let names = self.blocks.iter().filter(|named| named.block.kind == kind).map(|named| named.name.as_str());
            finding.help.extend(strake_source::nearest(name, names).map(|near| format!("did you mean `{near}`?")));
            return Err(Box::new(finding));
        }
        if attribute == "name" {
            return Ok(Value::from(name));
        }
        let known: &[&str] = if kind == "target" { &crate::decode::TARGET } else { &crate::decode::GROUP };
        if !known.contains(&attribute) {
            let mut finding = Diagnostic::error("bake-unknown-attribute", format!("a {kind} has no attribute `{attribute}`")).at(span);
            finding.help.extend(strake_source::nearest(attribute, known.iter().copied()).map(|near| format!("did you mean `{near}`?")));
            return Err(Box::new(finding));
        }
        let found = blocks.iter().rev().find_map(|named| named.block.get(attribute).map(|found| (named, found)));
        let Some((named, found)) = found else { return Ok(Value::Null) };
        let key = (kind.to_owned(), name.to_owned(), attribute.to_owned());
        remember(&self.block_values, key, &format!("{kind}.{name}.{attribute}"), span, || {
            let scope = Scope { parent: None, values: named.matrix.clone() };
            found.value.value(self, &scope)
        })
    }
}

/// Evaluates once; a name that is asked for while it is evaluated is a cycle.
fn remember<K: Ord + Clone>(known: &Known<K>, key: K, what: &str, span: Span, evaluate: impl FnOnce() -> Eval<Value>) -> Eval<Value> {
    match known.borrow().get(&key) {
        Some(Some(value)) => return value.clone(),
        Some(None) => return wrong("bake-cycle", format!("`{what}` needs itself"), span),
        None => {}
    }
    known.borrow_mut().insert(key.clone(), None);
    let value = evaluate();
    known.borrow_mut().insert(key, Some(value.clone()));
    value
}

fn builtins(inputs: &Inputs) -> [(&'static str, &str); 2] {
    [("BAKE_CMD_CONTEXT", "cwd://"), ("BAKE_LOCAL_PLATFORM", &inputs.local_platform)]
}

/// A value from outside, as the variable's type or that of its default.
fn outside(name: &str, text: &str, is_json: bool, wanted: Option<&Type>, default: Option<&Value>) -> Result<Value, String> {
    match (wanted, default) {
        (Some(wanted), _) if is_json => {
            let json: serde_json::Value = serde_json::from_str(text).map_err(|error| format!("{name}_JSON is no JSON: {error}"))?;
            wanted.convert(&Value::from_json(&json))
        }
        (Some(Type::Any), _) | (None, None | Some(Value::Null | Value::String(_))) => Ok(Value::from(text)),
        (Some(wanted), _) => from_environment(name, text, wanted),
        (None, Some(Value::Bool(_))) => from_environment(name, text, &Type::Bool),
        (None, Some(Value::Number(_))) => from_environment(name, text, &Type::Number),
        (None, Some(other)) => Err(format!("its default is {}, and only texts, numbers and truths can be given without a type", other.kind())),
    }
}

/// The value as `--list variables` shows it.
fn shown(value: &Value, wanted: Option<&Type>) -> Option<String> {
    match (value, wanted) {
        (Value::Null, _) => None,
        (Value::String(text), None | Some(Type::String)) => Some(text.clone()),
        (Value::Bool(_) | Value::Number(_), _) => value.to_text(),
        _ => Some(value.to_json().to_string()),
    }
}

/// Reports attributes that a block does not have.
pub(crate) fn unknown_attributes(block: &Block<'_>, known: &[&str], diagnostics: &mut Vec<Diagnostic>) {
    for (place, attribute) in block.attributes.iter().enumerate() {
        if block.attributes[..place].iter().any(|other| other.name == attribute.name) {
            diagnostics.push(Diagnostic::error("bake-value", format!("`{}` is set twice in one block", attribute.name)).at(attribute.name_span));
        }
        if known.contains(&attribute.name) {
            continue;
        }
        let message = format!("a {} has no attribute `{}`", block.kind, attribute.name);
        let mut finding = Diagnostic::error("bake-unknown-attribute", message).at(attribute.name_span);
        finding.help.extend(strake_source::nearest(attribute.name, known.iter().copied()).map(|near| format!("did you mean `{near}`?")));
        diagnostics.push(finding);
    }
}

fn missing_attributes(block: &Block<'_>, needed: &[&str], diagnostics: &mut Vec<Diagnostic>) {
    for name in needed.iter().filter(|name| block.get(name).is_none()) {
        diagnostics.push(Diagnostic::error("bake-value", format!("a {} needs `{name}`", block.kind)).at(block.span));
    }
}

impl Names for Definitions<'_> {
    fn variable(&self, name: &str, span: Span) -> Eval<Value> {
        remember(&self.values, name.to_owned(), name, span, || self.evaluate(name, span))
    }

    fn is_block(&self, kind: &str) -> bool {
        matches!(kind, "target" | "group")
    }

    fn block(&self, kind: &str, name: &str, attribute: Option<&str>, span: Span) -> Eval<Value> {
        match attribute {
            Some(attribute) => self.block_attribute(kind, name, attribute, span),
            None => {
                let known: &[&str] = if kind == "target" { &crate::decode::TARGET } else { &crate::decode::GROUP };
                let all = known.iter().map(|attribute| Ok(((*attribute).to_owned(), self.block_attribute(kind, name, attribute, span)?)));
                Ok(Value::Object(all.collect::<Eval<_>>()?))
            }
        }
    }

    fn call(&self, name: &str, arguments: &[Value], span: Span) -> Option<Eval<Value>> {
        // A function of the language is not replaced by one of the file.
        if crate::functions::find(name).is_some() {
            return None;
        }
        self.functions.get(name).map(|block| self.call_user(block, arguments, span))
    }

    fn functions(&self) -> Vec<&str> {
        self.functions.keys().copied().collect()
    }

    fn host(&self) -> &Host {
        &self.inputs.host
    }
}
