//! A validator for as much of JSON Schema draft 7 as `rules/schema.json` uses. A keyword that is not known here fails the
//! test that meets it: what is passed over would be believed.

use regex::Regex;
use serde_json::Value;

/// Where and by which keyword a value is refused; `None` where the schema takes it.
pub fn refusal(schema: &Value, value: &Value) -> Option<String> {
    Validator { root: schema }.check(schema, value, "").err()
}

struct Validator<'s> {
    root: &'s Value,
}

impl Validator<'_> {
    fn check(&self, schema: &Value, value: &Value, at: &str) -> Result<(), String> {
        let keywords = match schema {
            Value::Bool(true) => return Ok(()),
            Value::Bool(false) => return Err(format!("{at}: nothing may stand here")),
            other => other.as_object().expect("a schema is an object or a truth value"),
        };
        let takes = |schema: &Value| self.check(schema, value, at).is_ok();
        for (keyword, wanted) in keywords {
            let holds = match keyword.as_str() {
                "$schema" | "$comment" | "title" | "description" | "definitions" => true,
                "$ref" => {
                    let path =
                        wanted.as_str().and_then(|path| path.strip_prefix('#')).expect("a local reference");
                    self.check(self.root.pointer(path).expect("the reference leads somewhere"), value, at)?;
                    true
                }
                "type" => is_type(value, wanted.as_str().expect("one type")),
                "const" => value == wanted,
                "enum" => all(wanted).contains(value),
                "pattern" => value.as_str().is_none_or(|text| matches(wanted, text)),
                "minimum" => value.as_i64().is_none_or(|number| number >= number_of(wanted)),
                "maximum" => value.as_i64().is_none_or(|number| number <= number_of(wanted)),
                "anyOf" => all(wanted).iter().any(takes),
                "oneOf" => all(wanted).iter().filter(|schema| takes(schema)).count() == 1,
                "allOf" => {
                    all(wanted).iter().try_for_each(|schema| self.check(schema, value, at))?;
                    true
                }
                "not" => !takes(wanted),
                "if" => {
                    let branch = keywords.get(if takes(wanted) { "then" } else { "else" });
                    branch.map_or(Ok(()), |schema| self.check(schema, value, at))?;
                    true
                }
                "then" | "else" => keywords.contains_key("if"),
                "required" | "minProperties" | "properties" | "additionalProperties" | "propertyNames" => {
                    self.object(keyword, (wanted, &schema["properties"]), value, at)?;
                    true
                }
                "items" | "minItems" | "uniqueItems" | "contains" => {
                    self.array(keyword, wanted, value, at)?;
                    true
                }
                unknown => panic!("{unknown:?} is no keyword that this validator knows"),
            };
            if !holds {
                return Err(format!("{at}: {keyword}"));
            }
        }
        Ok(())
    }

    fn object(
        &self,
        keyword: &str,
        (wanted, properties): (&Value, &Value),
        value: &Value,
        at: &str,
    ) -> Result<(), String> {
        let Some(object) = value.as_object() else { return Ok(()) };
        let holds = match keyword {
            "required" => all(wanted).iter().all(|key| object.contains_key(key.as_str().expect("a key"))),
            "minProperties" => object.len() as i64 >= number_of(wanted),
            _ => {
                for (key, inner) in object {
                    let inside = format!("{at}/{key}");
                    match keyword {
                        "propertyNames" => self.check(wanted, &Value::from(key.as_str()), &inside)?,
                        "properties" => {
                            wanted.get(key).map_or(Ok(()), |schema| self.check(schema, inner, &inside))?;
                        }
                        _ if properties.get(key).is_some() => {}
                        _ => self.check(wanted, inner, &inside)?,
                    }
                }
                true
            }
        };
        if holds { Ok(()) } else { Err(format!("{at}: {keyword}")) }
    }

    fn array(&self, keyword: &str, wanted: &Value, value: &Value, at: &str) -> Result<(), String> {
        let Some(items) = value.as_array() else { return Ok(()) };
        let holds = match keyword {
            "minItems" => items.len() as i64 >= number_of(wanted),
            "uniqueItems" => (1..items.len()).all(|at| !items[..at].contains(&items[at])),
            "contains" => items.iter().any(|item| self.check(wanted, item, at).is_ok()),
            _ => {
                let mut numbered = items.iter().enumerate();
                numbered
                    .try_for_each(|(number, item)| self.check(wanted, item, &format!("{at}/{number}")))?;
                true
            }
        };
        if holds { Ok(()) } else { Err(format!("{at}: {keyword}")) }
    }
}

fn all(of: &Value) -> &[Value] {
    of.as_array().expect("an array")
}

fn number_of(wanted: &Value) -> i64 {
    wanted.as_i64().expect("a whole number")
}

fn matches(pattern: &Value, text: &str) -> bool {
    Regex::new(pattern.as_str().expect("a pattern")).expect("a pattern that can be read").is_match(text)
}

fn is_type(value: &Value, name: &str) -> bool {
    match name {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "integer" => value.is_i64() || value.is_u64(),
        "boolean" => value.is_boolean(),
        unknown => panic!("{unknown:?} is no type that this validator knows"),
    }
}
