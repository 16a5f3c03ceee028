//! Sums of products with a common factor. WGSL lets compilers turn `a * s + b * s` into `(a + b) * s`, and Mesa does: a
//! factor that keeps each product within f32 must not be common to a sum.

use std::cell::Cell;
use std::collections::{BTreeSet, HashMap, HashSet};

use naga::valid::{FunctionInfo, ModuleInfo};
use naga::{BinaryOperator, Expression, Handle, MathFunction, Module, Statement, TypeInner};

/// Common factors that guard no sum, each with the reason.
const HARMLESS: &[(&str, &str)] = &[];

/// A constant guards a sum if it is above this number or below its inverse.
const LARGEST_PLAIN: f32 = (1u64 << 40) as f32;

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Key {
    /// A member of a uniform, or an override.
    Global(String),
    Argument(usize, String),
    Constant(u32),
    Local(Handle<naga::LocalVariable>),
    Value(Handle<Expression>),
}

/// What a product multiplies, or divides by.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Factor {
    key: Key,
    /// Equal in all components.
    is_scalar: bool,
}

/// The factors of a value; `None` for a variable within its own definition.
type Factors = Option<BTreeSet<Factor>>;

fn union(all: impl IntoIterator<Item = Factors>) -> Factors {
    all.into_iter().flatten().reduce(|all, more| all.into_iter().chain(more).collect())
}

fn common(a: Factors, b: Factors) -> Factors {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.intersection(&b).cloned().collect()),
        (a, b) => a.or(b),
    }
}

/// A function, and the statements that define its values.
struct Function<'a> {
    module: &'a Module,
    function: &'a naga::Function,
    info: &'a FunctionInfo,
    /// The factors of the results of the functions before this one.
    results: &'a HashMap<Handle<naga::Function>, BTreeSet<Factor>>,
    /// Pointers and values.
    stores: Vec<(Handle<Expression>, Handle<Expression>)>,
    calls: HashMap<Handle<Expression>, (Handle<naga::Function>, &'a [Handle<Expression>])>,
    returns: Vec<Handle<Expression>>,
    /// Values that a loop computes anew.
    looped: HashSet<Handle<Expression>>,
    /// The sum under examination.
    sum: Cell<Option<Handle<Expression>>>,
}

impl<'a> Function<'a> {
    fn collect(&mut self, block: &'a naga::Block, in_loop: bool) {
        for statement in block {
            match statement {
                Statement::Emit(range) if in_loop => self.looped.extend(range.clone()),
                Statement::Block(block) => self.collect(block, in_loop),
                Statement::If { accept, reject, .. } => {
                    self.collect(accept, in_loop);
                    self.collect(reject, in_loop);
                }
                Statement::Switch { cases, .. } => cases.iter().for_each(|case| self.collect(&case.body, in_loop)),
                Statement::Loop { body, continuing, .. } => {
                    self.collect(body, true);
                    self.collect(continuing, true);
                }
                Statement::Store { pointer, value } => self.stores.push((*pointer, *value)),
                Statement::Return { value } => self.returns.extend(*value),
                Statement::Call { function, arguments, result: Some(result) } => {
                    self.calls.insert(*result, (*function, arguments));
                    if in_loop {
                        self.looped.insert(*result);
                    }
                }
                _ => {}
            }
        }
    }

    fn type_of(&self, expression: Handle<Expression>) -> &TypeInner {
        self.info[expression].ty.inner_with(&self.module.types)
    }

    fn factor(&self, expression: Handle<Expression>, key: Key) -> Factors {
        let is_scalar = matches!(self.type_of(expression), TypeInner::Scalar(_));
        Some(BTreeSet::from([Factor { key, is_scalar }]))
    }

    /// The root of a chain of members, and their numbers; dynamic indices end the numbers.
    fn root(&self, mut at: Handle<Expression>) -> (Handle<Expression>, Vec<u32>) {
        let mut members = Vec::new();
        loop {
            match self.function.expressions[at] {
                Expression::AccessIndex { base, index } => {
                    members.insert(0, index);
                    at = base;
                }
                Expression::Access { base, .. } => {
                    members.clear();
                    at = base;
                }
                _ => return (at, members),
            }
        }
    }

    /// The key of a member of an argument or of a uniform.
    fn member(&self, expression: Handle<Expression>) -> Option<Key> {
        let expression = match self.function.expressions[expression] {
            Expression::Load { pointer } => pointer,
            _ => expression,
        };
        let (root, members) = self.root(expression);
        let (name, mut ty, argument) = match self.function.expressions[root] {
            Expression::FunctionArgument(number) => {
                let argument = &self.function.arguments[number as usize];
                (argument.name.clone()?, argument.ty, Some(number as usize))
            }
            Expression::GlobalVariable(variable) => {
                let variable = &self.module.global_variables[variable];
                (variable.space == naga::AddressSpace::Uniform).then_some(())?;
                (variable.name.clone()?, variable.ty, None)
            }
            _ => return None,
        };
        let mut path = name;
        for member in members {
            match &self.module.types[ty].inner {
                TypeInner::Struct { members, .. } => {
                    path = format!("{path}.{}", members[member as usize].name.as_deref()?);
                    ty = members[member as usize].ty;
                }
                TypeInner::Vector { .. } => path = format!("{path}.{}", ["x", "y", "z", "w"][member as usize]),
                _ => break,
            }
        }
        Some(argument.map_or(Key::Global(path.clone()), |number| Key::Argument(number, path)))
    }

    /// `open`: the variables whose definitions lead here.
    fn factors(&self, expression: Handle<Expression>, open: &[Handle<naga::LocalVariable>]) -> Factors {
        use Expression as E;

        if let Some(key) = self.member(expression) {
            return self.factor(expression, key);
        }
        let of = |expression| self.factors(expression, open);
        let own = || self.factor(expression, Key::Value(expression));
        let of_literal = |literal: &naga::Literal| match literal {
            naga::Literal::F32(value) => self.factor(expression, Key::Constant(value.to_bits())),
            _ => own(),
        };
        match &self.function.expressions[expression] {
            E::Literal(literal) => of_literal(literal),
            E::Constant(constant) => {
                match &self.module.global_expressions[self.module.constants[*constant].init] {
                    E::Literal(literal) => of_literal(literal),
                    _ => own(),
                }
            }
            E::Override(number) => {
                let name = self.module.overrides[*number].name.clone().unwrap_or_default();
                self.factor(expression, Key::Global(name))
            }
            E::ZeroValue(_) => Some(BTreeSet::new()),
            E::Compose { components, .. } => union(components.iter().map(|&component| of(component))),
            E::Splat { value, .. } => of(*value),
            E::Swizzle { vector: base, .. } | E::AccessIndex { base, .. } | E::Access { base, .. } => {
                let mut factors = of(*base);
                if !matches!(self.type_of(*base), TypeInner::Struct { .. } | TypeInner::Array { .. }) {
                    factors.iter_mut().for_each(|factors| factors.retain(|factor| factor.is_scalar));
                }
                union([factors, own()])
            }
            E::Load { pointer } => match self.root(*pointer) {
                (root, members) if matches!(self.function.expressions[root], E::LocalVariable(_)) => {
                    let E::LocalVariable(variable) = self.function.expressions[root] else { unreachable!() };
                    self.factors_of_variable(expression, variable, &members, open)
                }
                _ => own(),
            },
            E::Unary { op: naga::UnaryOperator::Negate, expr } => of(*expr),
            E::Math { fun: MathFunction::Abs, arg, .. } => of(*arg),
            E::Binary { op: BinaryOperator::Multiply | BinaryOperator::Divide, left, right } => {
                union([of(*left), of(*right)])
            }
            E::Binary { op: BinaryOperator::Add | BinaryOperator::Subtract, left, right } => {
                union([common(of(*left), of(*right)), own()])
            }
            E::Select { accept, reject, .. } => union([of(*accept), of(*reject)]),
            E::CallResult(_) => {
                let (function, arguments) = &self.calls[&expression];
                let factors = self.results[function].iter().map(|factor| match &factor.key {
                    Key::Argument(number, _) => of(arguments[*number]),
                    _ => Some(BTreeSet::from([factor.clone()])),
                });
                union(factors.chain([own()]))
            }
            _ => own(),
        }
    }

    fn factors_of_variable(
        &self,
        load: Handle<Expression>,
        variable: Handle<naga::LocalVariable>,
        members: &[u32],
        open: &[Handle<naga::LocalVariable>],
    ) -> Factors {
        if open.contains(&variable) {
            return None;
        }
        let open = [open, &[variable]].concat();
        let init = self.function.local_variables[variable].init;
        let mut all = vec![self.factor(load, Key::Local(variable)), init.and_then(|init| self.factors(init, &open))];
        for &(pointer, value) in &self.stores {
            let (root, stored) = self.root(pointer);
            let is_same = matches!(self.function.expressions[root], Expression::LocalVariable(other) if other == variable);
            if !is_same || stored.iter().zip(members).any(|(a, b)| a != b) {
                continue;
            }
            if self.sum.get() != Some(value) {
                all.push(self.factors(value, &open));
            } else if self.looped.contains(&value) {
                // The sum of the previous round of the loop, whose other values were different ones.
                let mut factors = self.factors(value, &open);
                let is_varying = |key: &Key| match key {
                    Key::Value(value) => self.looped.contains(value),
                    Key::Local(_) => true,
                    _ => false,
                };
                factors.iter_mut().for_each(|factors| factors.retain(|factor| !is_varying(&factor.key)));
                all.push(factors);
            }
        }
        union(all)
    }

    /// The factors that sums in this function have in common, in words.
    fn shared(&self) -> Vec<String> {
        let mut shared = Vec::new();
        for (sum, expression) in self.function.expressions.iter() {
            let (left, right) = match *expression {
                Expression::Binary { op: BinaryOperator::Add | BinaryOperator::Subtract, left, right } => (left, right),
                Expression::Math { fun: MathFunction::Fma, arg, arg1: Some(_), arg2: Some(arg2) } => (arg, arg2),
                Expression::Math { fun: MathFunction::Dot, arg, arg1: Some(arg1), .. } => (arg, arg1),
                _ => continue,
            };
            if !matches!(self.type_of(sum).scalar_kind(), Some(naga::ScalarKind::Float)) {
                continue;
            }
            self.sum.set(Some(sum));
            let sides = [left, right].map(|side| self.factors(side, &[]).unwrap_or_default());
            let is_product = |factors: &BTreeSet<Factor>| factors.len() > 1;
            let both = sides[0].intersection(&sides[1]);
            let both = both.filter(|_| sides.iter().all(is_product)).filter(|factor| self.guards(factor));
            let constants = sides.iter().filter(|side| is_product(side)).flatten();
            let constants = constants.filter(|factor| matches!(factor.key, Key::Constant(_)) && self.guards(factor));
            shared.extend(both.chain(constants).map(|factor| self.describe(factor)));
        }
        shared
    }

    fn guards(&self, factor: &Factor) -> bool {
        match &factor.key {
            Key::Constant(bits) => {
                let size = f32::from_bits(*bits).abs();
                size != 0.0 && !(1.0 / LARGEST_PLAIN..=LARGEST_PLAIN).contains(&size)
            }
            Key::Global(path) | Key::Argument(_, path) => {
                let is_part = |rest: &str| rest.is_empty() || rest.starts_with('.');
                !HARMLESS.iter().any(|(whole, _)| path.strip_prefix(whole).is_some_and(is_part))
            }
            Key::Local(_) | Key::Value(_) => true,
        }
    }

    fn describe(&self, factor: &Factor) -> String {
        let name = match &factor.key {
            Key::Global(path) | Key::Argument(_, path) => path.clone(),
            Key::Constant(bits) => format!("{:e}", f32::from_bits(*bits)),
            Key::Local(variable) => self.function.local_variables[*variable].name.clone().unwrap_or_default(),
            Key::Value(value) => {
                let name = self.function.named_expressions.get(value).cloned();
                name.unwrap_or_else(|| format!("{:?}", self.function.expressions[*value]))
            }
        };
        format!("{} multiplies by {name}", self.function.name.as_deref().unwrap_or("a kernel"))
    }
}

/// Sums of products that have a factor in common which may be a guard: the function and the factor.
pub fn shared_factors(module: &Module, info: &ModuleInfo) -> Vec<String> {
    let mut results = HashMap::new();
    let mut shared = Vec::new();
    let functions = module.functions.iter().map(|(handle, function)| (Some(handle), function, &info[handle]));
    let kernels = module.entry_points.iter().enumerate();
    let kernels = kernels.map(|(i, entry)| (None, &entry.function, info.get_entry_point(i)));
    for (handle, function, info) in functions.chain(kernels) {
        let mut function = Function {
            module,
            function,
            info,
            results: &results,
            stores: Vec::new(),
            calls: HashMap::new(),
            returns: Vec::new(),
            looped: HashSet::new(),
            sum: Cell::new(None),
        };
        function.collect(&function.function.body, false);
        shared.extend(function.shared());
        function.sum.set(None);
        let result = union(function.returns.iter().map(|&value| function.factors(value, &[])));
        let mut result = result.unwrap_or_default();
        // The function's own values mean nothing elsewhere.
        result.retain(|factor| !matches!(factor.key, Key::Local(_) | Key::Value(_)));
        if let Some(handle) = handle {
            results.insert(handle, result);
        }
    }
    shared.sort();
    shared.dedup();
    shared
}
