//! How much work a component makes the compiler, estimated before it is compiled. Compiling can't be interrupted, so what would take
//! minutes or gigabytes is refused.
//!
//! Most of compiling takes time by the bytes, and the size of a plugin is limited. What isn't in proportion to them:
//!
//! - **Control flow.** The time and memory that a function takes grow with the square of its branches, and with its branches times its
//!   local variables: 150 KB of nested loops take half a minute.
//! - **Nesting.** Each instantiation of a component is unfolded. A kilobyte of components that instantiate each other twice makes
//!   millions.
//!
//! The limits are far from what compilers make of programs, and the estimates err upwards. Whether the component is valid is said elsewhere.

use loginscope_login::rejection::printable;
use wasmparser::{
    BinaryReaderError, ComponentInstance, CompositeInnerType, Encoding, FunctionBody, Operator, Parser, Payload,
};

use crate::load_error::Problem;

/// The largest function, in bytes.
const MAX_FUNCTION_BYTES: usize = 1 << 20;

/// The most effort for one function: some 22,000 branches. That takes some seconds, and less than a gigabyte.
const MAX_FUNCTION_EFFORT: u64 = 500_000_000;

/// The most effort for all functions together.
const MAX_EFFORT: u64 = 2_000_000_000;

/// The most bytes to which the definitions of components may unfold, core modules and custom sections aside.
const MAX_UNFOLDED_BYTES: u64 = 16 << 20;

/// Refuses a component, or a module, that would keep the compiler busy for too long, or that can't be read to its end.
pub(crate) fn check(component: &[u8]) -> Result<(), Problem> {
    let mut estimate = Estimate::default();
    for payload in Parser::new(0).parse_all(component) {
        estimate.add(payload.map_err(|error| malformed(&error))?)?;
    }
    let definitions = (component.len() as u64).saturating_sub(estimate.other_bytes);
    match estimate.times.saturating_mul(definitions) {
        0..=MAX_UNFOLDED_BYTES => Ok(()),
        _ => Err(too_complex("its components instantiate each other too often")),
    }
}

fn malformed(error: &BinaryReaderError) -> Problem {
    Problem::NotCompiled { reason: printable(&error.to_string(), 1024) }
}

fn too_complex(what: &'static str) -> Problem {
    Problem::TooComplex { what }
}

/// What is known of a component so far.
struct Estimate {
    /// The effort of all functions.
    functions: u64,
    /// How many times a definition may be unfolded at most: a component instantiates only those that are complete before it is, each at
    /// most as often as they have instantiated all others.
    times: u64,
    /// The bytes that aren't unfolded: core modules, and custom sections of components.
    other_bytes: u64,
    /// The most parameters and results that any type of a function has.
    arity: u64,
    /// The modules and components around what comes next.
    open: Vec<Open>,
}

/// A module or a component that has begun.
struct Open {
    encoding: Encoding,
    start: usize,
    /// How many components it instantiates.
    instantiations: u64,
}

impl Default for Estimate {
    fn default() -> Self {
        Self { functions: 0, times: 1, other_bytes: 0, arity: 0, open: Vec::new() }
    }
}

impl Estimate {
    fn add(&mut self, payload: Payload<'_>) -> Result<(), Problem> {
        match payload {
            Payload::Version { encoding, range, .. } => {
                self.open.push(Open { encoding, start: range.start, instantiations: 0 });
            }
            Payload::End(end) => match self.open.pop() {
                Some(Open { encoding: Encoding::Module, start, .. }) => {
                    self.other_bytes += end.saturating_sub(start) as u64;
                }
                Some(Open { encoding: Encoding::Component, instantiations, .. }) => {
                    self.times = self.times.saturating_mul(1 + instantiations);
                }
                None => {}
            },
            Payload::ComponentInstanceSection(instances) => {
                for instance in instances {
                    let is_unfolded =
                        matches!(instance.map_err(|error| malformed(&error))?, ComponentInstance::Instantiate { .. });
                    if let (true, Some(component)) = (is_unfolded, self.open.last_mut()) {
                        component.instantiations += 1;
                    }
                }
            }
            Payload::CustomSection(section)
                if self.open.last().is_some_and(|open| open.encoding == Encoding::Component) =>
            {
                self.other_bytes += section.range().len() as u64;
            }
            Payload::TypeSection(types) => {
                for group in types {
                    for of_group in group.map_err(|error| malformed(&error))?.types() {
                        if let CompositeInnerType::Func(function) = &of_group.composite_type.inner {
                            let arity = function.params().len() + function.results().len();
                            self.arity = self.arity.max(arity as u64);
                        }
                    }
                }
            }
            Payload::CodeSectionEntry(function) => self.add_function(&function)?,
            _ => {}
        }
        Ok(())
    }

    fn add_function(&mut self, function: &FunctionBody<'_>) -> Result<(), Problem> {
        if function.range().len() > MAX_FUNCTION_BYTES {
            return Err(too_complex("it has a function of more than 1 MiB"));
        }
        let effort = effort(function, self.arity).map_err(|error| malformed(&error))?;
        self.functions = self.functions.saturating_add(effort);
        if effort > MAX_FUNCTION_EFFORT {
            return Err(too_complex("it has a function with too many branches and local variables"));
        }
        if self.functions > MAX_EFFORT {
            return Err(too_complex("its functions together have too many branches and local variables"));
        }
        Ok(())
    }
}

/// The effort for one function, in units of some ten nanoseconds, where types of blocks and of functions that are called have at most so
/// many parameters and results: each of them becomes a value with each call, and with each block.
fn effort(function: &FunctionBody<'_>, arity: u64) -> Result<u64, BinaryReaderError> {
    let mut locals = 0_u64;
    for group in function.get_locals_reader()? {
        locals = locals.saturating_add(u64::from(group?.0));
    }
    let (mut branches, mut calls) = (0_u64, 0_u64);
    for operator in function.get_operators_reader()? {
        match operator? {
            Operator::Block { .. }
            | Operator::Loop { .. }
            | Operator::If { .. }
            | Operator::Br { .. }
            | Operator::BrIf { .. }
            | Operator::BrOnNull { .. }
            | Operator::BrOnNonNull { .. }
            | Operator::TryTable { .. } => branches += 1,
            Operator::BrTable { targets } => branches += 1 + u64::from(targets.len()),
            Operator::Call { .. } | Operator::CallIndirect { .. } | Operator::CallRef { .. } => calls += 1,
            _ => {}
        }
    }
    let by_branches = branches.saturating_mul(branches.saturating_add(locals).saturating_add(arity.saturating_mul(4)));
    let by_calls = calls.saturating_mul(locals / 4 + arity.saturating_mul(4));
    Ok(by_branches.saturating_add(by_calls))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(text: &str) -> Result<(), Problem> {
        check(&wat::parse_str(text).unwrap())
    }

    fn refusal(text: &str) -> String {
        checked(text).unwrap_err().to_string()
    }

    fn function(locals: usize, body: &str) -> String {
        let locals = "i32 ".repeat(locals);
        format!("(component (core module (func $f (param i32) (local {locals}) {body})))")
    }

    #[test]
    fn components_that_unfold_without_end_are_refused() {
        let nested = |depth: usize| {
            let one = |at: usize| {
                let before = at - 1;
                format!(
                    "(component $c{at} (alias outer 1 $c{before} (component $c))
                     (instance (instantiate $c)) (instance (instantiate $c)))"
                )
            };
            let all: String = (1..=depth).map(one).collect();
            format!("(component (component $c0) {all})")
        };
        assert_eq!(checked(&nested(5)), Ok(()));
        for depth in [12, 30, 500] {
            let said = refusal(&nested(depth));
            assert_eq!(said, "compiling it would take too long: its components instantiate each other too often");
        }
    }

    #[test]
    fn functions_that_make_a_thousand_values_with_each_call_or_block_are_refused() {
        let many = "i64 ".repeat(1000);
        let typed = |body: String| {
            let values = "(i64.const 0)".repeat(1000);
            format!(
                "(component (core module (type $t (func (param {many}) (result {many})))
                 (func $f (type $t) {values} {body})))"
            )
        };
        assert_eq!(checked(&typed("call $f ".repeat(100))), Ok(()));
        for text in [typed("call $f ".repeat(300_000)), typed("(loop (type $t))".repeat(30_000))] {
            let said = refusal(&text);
            assert!(said.contains("too many branches and local variables"), "{said}");
        }
    }

    #[test]
    fn functions_whose_branches_take_the_square_of_their_number_are_refused() {
        let branches = |count: usize| "(block (br_if 0 (local.get 0)))".repeat(count);
        let loops = |count: usize| format!("{}{}", "(loop ".repeat(count), ")".repeat(count));
        assert_eq!(checked(&function(100, &branches(5_000))), Ok(()));
        for text in [
            function(100, &branches(12_000)),
            function(10_000, &branches(10_000)),
            function(0, &format!("(block (br_table {} (local.get 0)))", "0 ".repeat(25_000))),
            function(0, &loops(23_000)),
        ] {
            assert!(refusal(&text).ends_with("it has a function with too many branches and local variables"));
        }
        let one = format!("(func {})", loops(20_000));
        let module = |functions: usize| format!("(component (core module {}))", one.repeat(functions));
        assert_eq!(checked(&module(5)), Ok(()));
        assert!(refusal(&module(6)).contains("its functions together"));
    }

    #[test]
    fn many_variables_over_many_calls_and_huge_functions_are_refused() {
        let calls = |count: usize| "(call $f (i32.const 0))".repeat(count);
        assert_eq!(checked(&function(1_000, &calls(1_000))), Ok(()));
        assert!(checked(&function(50_000, &calls(50_000))).is_err());
        assert!(refusal(&function(0, &"nop ".repeat(MAX_FUNCTION_BYTES))).ends_with("a function of more than 1 MiB"));
    }

    #[test]
    fn core_modules_and_custom_sections_are_not_unfolded() {
        let data = "x".repeat(8 << 20);
        let text = format!(
            "(component (core module (memory 200) (data (i32.const 0) \"{data}\")) (@custom \"notes\" \"{data}\")
               (component $c) (instance (instantiate $c)) (instance (instantiate $c)))"
        );
        assert_eq!(checked(&text), Ok(()));
    }

    #[test]
    fn what_cannot_be_read_is_an_error() {
        let whole = wat::parse_str(function(1, "(call $f (i32.const 0))")).unwrap();
        for length in 8..whole.len() {
            assert!(matches!(check(&whole[..length]), Ok(()) | Err(Problem::NotCompiled { .. })));
        }
        assert!(check(&whole[..whole.len() - 1]).is_err());
    }
}
