//! The one table of the functions that rules may call. Names and meanings are CEL's where CEL has the function;
//! `abs`, `min` and `max` are what its math extension calls `math.abs`, `math.least` and `math.greatest`.
//!
//! Deliberately absent: loops over lists, regular expressions, clocks and everything whose cost the text of a rule
//! does not bound.

/// One function.
#[derive(Debug)]
pub struct Builtin {
    pub name: &'static str,
    pub function: Function,
    /// Called as `x.name(..)` rather than `name(x, ..)`.
    pub is_method: bool,
    /// Arguments, the receiver not counted.
    pub arguments: usize,
    /// How to write it, for messages.
    pub usage: &'static str,
    /// One sentence.
    pub doc: &'static str,
    /// Estimated cost besides that of its arguments.
    pub cost_ns: u32,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Function {
    Has,
    StartsWith,
    EndsWith,
    Contains,
    Size,
    Abs,
    Min,
    Max,
    Double,
    Int,
}

const fn function(
    function: Function,
    usage: &'static str,
    name: &'static str,
    arguments: usize,
    cost_ns: u32,
    doc: &'static str,
) -> Builtin {
    Builtin { name, function, is_method: false, arguments, usage, doc, cost_ns }
}

const fn method(
    function: Function,
    usage: &'static str,
    name: &'static str,
    cost_ns: u32,
    doc: &'static str,
) -> Builtin {
    Builtin { name, function, is_method: true, arguments: 1, usage, doc, cost_ns }
}

/// Every function.
pub const BUILTINS: &[Builtin] = &[
    function(Function::Has, "has(device.id)", "has", 1, 1, "Whether a value is there; never unknown."),
    method(
        Function::StartsWith,
        "merchant.name.startsWith('PAY')",
        "startsWith",
        5,
        "Whether a text begins with another.",
    ),
    method(
        Function::EndsWith,
        "merchant.name.endsWith('.COM')",
        "endsWith",
        5,
        "Whether a text ends with another.",
    ),
    method(
        Function::Contains,
        "merchant.name.contains('GIFT')",
        "contains",
        40,
        "Whether a text contains another.",
    ),
    function(Function::Size, "size(merchant.name)", "size", 1, 20, "Characters of a text."),
    function(Function::Abs, "abs(x)", "abs", 1, 1, "The size of a number or an amount, without its sign."),
    function(Function::Min, "min(x, y)", "min", 2, 2, "The smaller of two numbers or amounts."),
    function(Function::Max, "max(x, y)", "max", 2, 2, "The greater of two numbers or amounts."),
    function(Function::Double, "double(x)", "double", 1, 1, "A whole number as a decimal number."),
    function(
        Function::Int,
        "int(x)",
        "int",
        1,
        1,
        "A decimal number as a whole number, towards zero; unknown where it does not fit.",
    ),
];

/// Functions that writers of CEL expect and rules do not have, and why.
const REFUSED: &[(&str, &str)] = &[
    ("all", LOOPS),
    ("exists", LOOPS),
    ("exists_one", LOOPS),
    ("existsOne", LOOPS),
    ("filter", LOOPS),
    ("map", LOOPS),
    ("matches", "there are no regular expressions; use startsWith, endsWith or contains"),
    ("timestamp", "rules do not calculate with times; use hour_utc, weekday_utc or an aggregate"),
    ("duration", "rules do not calculate with times; use hour_utc, weekday_utc or an aggregate"),
    ("now", "rules do not read the clock; use hour_utc, weekday_utc or an aggregate"),
    ("string", "numbers are not turned into texts"),
];
const LOOPS: &str = "there are no loops; use `in` with a list";

/// The row of a name.
pub fn lookup(name: &str) -> Option<&'static Builtin> {
    BUILTINS.iter().find(|builtin| builtin.name == name)
}

/// Why a function of CEL is not there, for one that is left out on purpose.
pub fn refusal(name: &str) -> Option<&'static str> {
    REFUSED.iter().find(|(refused, _)| *refused == name).map(|(_, why)| *why)
}
