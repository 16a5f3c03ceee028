//! Sums of products with a common factor. WGSL lets compilers turn `a * s + b * s` into `(a + b) * s`, and Mesa does: a
//! factor that keeps each product within f32 must not be common to a sum.

use std::cell::Cell;
use std::collections::{BTreeSet, HashMap, HashSet};

use naga::valid::{Capabilities, FunctionInfo, ModuleInfo, ValidationFlags, Validator};
use naga::{BinaryOperator, Expression, Handle, MathFunction, Module, Statement, TypeInner};

/// Functions of rules, and common factors of their sums that guard nothing, with the reason.
pub const HARMLESS: &[(&str, &str, &str)] = &[
    ("rule", "step.lr", "a learning rate is no guard: decay and update are within f32 without it"),
    ("rule", "lr", "StableAdamW: the learning rate of a tensor"),
    ("rule", "decayed", "SGD: the gradient itself, in a buffer with learning rates"),
    ("rule", "scaled", "LARS: the scaled gradient itself"),
    ("rule", "hyper.trust_coefficient", "LARS: about 1e-3"),
    ("rule", "denom", "NAdam: the numerators are shares of gradient and momentum"),
    ("update_tensor_state", "hyper.d_coef", "Prodigy: about 1"),
    ("update_tensor_state", "sums.s_norm", "Prodigy: a share of the estimate is added to it"),
    ("update_tensor_state", "d_numerator", "Prodigy: a share of the estimate is added to it"),
];

/// A constant guards a sum if it is above this number or below its inverse.
const MAX_PLAIN: f32 = (1u64 << 40) as f32;

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Key {
    /// A member of a uniform, or an override.
    Global(String),
    /// A member of an argument. `is_factor`: it multiplies, beside what the caller multiplied it by before.
    Argument {
        number: usize,
        path: String,
        is_factor: bool,
    },
    Constant(u32),
    Value(Handle<Expression>),
}

/// A factor or divisor of a product.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Factor {
    key: Key,
    /// Equal in all components.
    is_scalar: bool,
}

/// The factors of a product, none of other values; `None` for a variable within its own definition.
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

/// A function and its arguments.
type Call<'a> = (Handle<naga::Function>, &'a [Handle<Expression>]);

/// A function, and the statements that define its values.
struct Body<'a> {
    module: &'a Module,
    function: &'a naga::Function,
    info: &'a FunctionInfo,
    /// The factors of the results of the functions before this one.
    results: &'a HashMap<Handle<naga::Function>, BTreeSet<Factor>>,
    /// Pointers and values.
    stores: Vec<(Handle<Expression>, Handle<Expression>)>,
    calls: HashMap<Handle<Expression>, Call<'a>>,
    returns: Vec<Handle<Expression>>,
    /// Values that a loop computes anew.
    looped: HashSet<Handle<Expression>>,
    /// The sum under examination.
    sum: Cell<Option<Handle<Expression>>>,
}

impl<'a> Body<'a> {
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

    fn factor(&self, expression: Handle<Expression>, key: Key) -> BTreeSet<Factor> {
        let is_scalar = matches!(self.type_of(expression), TypeInner::Scalar(_));
        BTreeSet::from([Factor { key, is_scalar }])
    }

    /// The root of a chain of members, and their numbers; none before a dynamic index.
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

    /// Whether an index in a chain of members is dynamic.
    fn is_dynamic(&self, at: Handle<Expression>) -> bool {
        match self.function.expressions[at] {
            Expression::AccessIndex { base, .. } => self.is_dynamic(base),
            Expression::Access { .. } => true,
            _ => false,
        }
    }

    /// The names of members, each after a dot.
    fn names(&self, mut ty: Handle<naga::Type>, members: &[u32]) -> String {
        let mut path = String::new();
        for &member in members {
            match &self.module.types[ty].inner {
                TypeInner::Struct { members, .. } => {
                    path.push('.');
                    path += members[member as usize].name.as_deref().unwrap_or_default();
                    ty = members[member as usize].ty;
                }
                TypeInner::Vector { .. } => path += [".x", ".y", ".z", ".w"][member as usize],
                _ => break,
            }
        }
        path
    }

    /// The key of a member of an argument or of a uniform.
    fn member(&self, expression: Handle<Expression>, is_factor: bool) -> Option<Key> {
        let expression = match self.function.expressions[expression] {
            Expression::Load { pointer } => pointer,
            _ => expression,
        };
        let (root, members) = self.root(expression);
        match self.function.expressions[root] {
            _ if self.is_dynamic(expression) => None,
            Expression::FunctionArgument(number) => {
                let argument = &self.function.arguments[number as usize];
                let path = argument.name.clone()? + &self.names(argument.ty, &members);
                Some(Key::Argument { number: number as usize, path, is_factor })
            }
            Expression::GlobalVariable(variable) => {
                let variable = &self.module.global_variables[variable];
                (variable.space == naga::AddressSpace::Uniform).then_some(())?;
                Some(Key::Global(variable.name.clone()? + &self.names(variable.ty, &members)))
            }
            _ => None,
        }
    }

    /// Factors of a product with this value.
    fn as_factor(&self, expression: Handle<Expression>, open: &[Handle<naga::LocalVariable>]) -> Factors {
        let own = match self.function.expressions[expression] {
            Expression::Splat { value, .. } => return self.as_factor(value, open),
            Expression::Binary { op: BinaryOperator::Multiply | BinaryOperator::Divide, .. } => None,
            Expression::Literal(literal) => self.constant(expression, literal),
            Expression::Constant(constant) => {
                match self.module.global_expressions[self.module.constants[constant].init] {
                    Expression::Literal(literal) => self.constant(expression, literal),
                    _ => None,
                }
            }
            Expression::Override(number) => {
                let name = self.module.overrides[number].name.clone().unwrap_or_default();
                Some(self.factor(expression, Key::Global(name)))
            }
            _ => Some(self.factor(expression, self.member(expression, true).unwrap_or(Key::Value(expression)))),
        };
        union([self.factors(expression, open), own])
    }

    fn constant(&self, expression: Handle<Expression>, literal: naga::Literal) -> Factors {
        match literal {
            naga::Literal::F32(value) => Some(self.factor(expression, Key::Constant(value.to_bits()))),
            _ => None,
        }
    }

    /// `open`: the variables whose definitions lead here.
    fn factors(&self, expression: Handle<Expression>, open: &[Handle<naga::LocalVariable>]) -> Factors {
        use Expression as E;

        if let Some(key) = self.member(expression, false) {
            return Some(self.factor(expression, key));
        }
        let of = |expression| self.factors(expression, open);
        match &self.function.expressions[expression] {
            E::Compose { components, .. } => union(components.iter().map(|&component| of(component))),
            E::Splat { value, .. } => of(*value),
            E::Swizzle { vector: base, .. } | E::AccessIndex { base, .. } | E::Access { base, .. } => {
                self.of_component(expression, *base, of(*base))
            }
            E::Load { pointer } => {
                let (root, members) = self.root(*pointer);
                match self.function.expressions[root] {
                    E::LocalVariable(variable) => self.factors_of_variable(expression, variable, &members, open),
                    _ => Some(BTreeSet::new()),
                }
            }
            E::Unary { op: naga::UnaryOperator::Negate, expr } => of(*expr),
            E::Math { fun: MathFunction::Abs, arg, .. } => of(*arg),
            E::Binary { op: BinaryOperator::Multiply | BinaryOperator::Divide, left, right } => {
                union([self.as_factor(*left, open), self.as_factor(*right, open)])
            }
            E::Binary { op: BinaryOperator::Add | BinaryOperator::Subtract, left, right } => {
                common(of(*left), of(*right))
            }
            E::Select { accept, reject, .. } => union([of(*accept), of(*reject)]),
            E::CallResult(_) => {
                let (function, arguments) = &self.calls[&expression];
                let factors = self.results[function].iter().map(|factor| self.of_caller(factor, arguments, open));
                union(factors.chain([Some(BTreeSet::new())]))
            }
            _ => Some(BTreeSet::new()),
        }
    }

    /// The factors of a part of a value: the other components of a vector multiply others.
    fn of_component(&self, part: Handle<Expression>, whole: Handle<Expression>, mut factors: Factors) -> Factors {
        let is_vector = |value| matches!(self.type_of(value), TypeInner::Vector { .. } | TypeInner::Matrix { .. });
        if is_vector(whole) && !(is_vector(part) && matches!(self.type_of(whole), TypeInner::Vector { .. })) {
            if let Some(factors) = &mut factors {
                factors.retain(|factor| factor.is_scalar);
            }
        }
        factors
    }

    /// A factor of a called function's result, seen from here.
    fn of_caller(
        &self,
        factor: &Factor,
        arguments: &[Handle<Expression>],
        open: &[Handle<naga::LocalVariable>],
    ) -> Factors {
        let Key::Argument { number, path, is_factor } = &factor.key else {
            return Some(BTreeSet::from([factor.clone()]));
        };
        let argument = arguments[*number];
        let rest = &path[path.find('.').unwrap_or(path.len())..];
        let key = match self.member(argument, *is_factor) {
            Some(Key::Global(path)) => Key::Global(path + rest),
            Some(Key::Argument { number, path, is_factor }) => Key::Argument { number, path: path + rest, is_factor },
            _ if *is_factor => return self.as_factor(argument, open),
            _ => return self.factors(argument, open),
        };
        Some(BTreeSet::from([Factor { key, is_scalar: factor.is_scalar }]))
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
        let mut all = vec![Some(BTreeSet::new())];
        for &(pointer, value) in &self.stores {
            let (root, stored) = self.root(pointer);
            let is_same =
                matches!(self.function.expressions[root], Expression::LocalVariable(other) if other == variable);
            if !is_same || stored.iter().zip(members).any(|(a, b)| a != b) {
                continue;
            }
            let mut factors = self.of_component(load, value, self.factors(value, &open));
            if self.sum.get() == Some(value) {
                // The sum of the previous round of a loop, whose values were different ones; none without a loop.
                let is_fixed =
                    |factor: &Factor| !matches!(factor.key, Key::Value(value) if self.looped.contains(&value));
                let in_loop = self.looped.contains(&value);
                if let Some(factors) = &mut factors {
                    factors.retain(|factor| in_loop && is_fixed(factor));
                }
            }
            all.push(factors);
        }
        union(all)
    }

    /// The factors that sums in this function have in common, in words.
    fn shared(&self) -> Vec<String> {
        let mut shared = Vec::new();
        for (sum, expression) in self.function.expressions.iter() {
            if self.type_of(sum).scalar_kind() != Some(naga::ScalarKind::Float) {
                continue;
            }
            self.sum.set(Some(sum));
            let of = |value| self.factors(value, &[]).unwrap_or_default();
            let product = |a, b| union([self.as_factor(a, &[]), self.as_factor(b, &[])]).unwrap_or_default();
            let sides = match *expression {
                Expression::Binary { op: BinaryOperator::Add | BinaryOperator::Subtract, left, right } => {
                    [of(left), of(right)]
                }
                Expression::Math { fun: MathFunction::Fma, arg, arg1: Some(arg1), arg2: Some(arg2), .. } => {
                    [product(arg, arg1), of(arg2)]
                }
                Expression::Math { fun: MathFunction::Dot, arg, arg1: Some(arg1), .. } => {
                    let product = product(arg, arg1);
                    let scalars: BTreeSet<_> = product.iter().filter(|factor| factor.is_scalar).cloned().collect();
                    [product, scalars]
                }
                _ => continue,
            };
            let both = sides[0].intersection(&sides[1]);
            // A loop may add up such products one by one.
            let constants = sides.iter().flatten().filter(|factor| matches!(factor.key, Key::Constant(_)));
            shared.extend(both.chain(constants).filter_map(|factor| self.guard(factor)));
        }
        shared
    }

    /// The name of a factor that may keep a product within f32.
    fn guard(&self, factor: &Factor) -> Option<String> {
        let named = |value| match self.function.expressions[value] {
            Expression::Load { pointer } => match self.function.expressions[self.root(pointer).0] {
                Expression::LocalVariable(variable) => self.function.local_variables[variable].name.clone(),
                _ => None,
            },
            _ => self.function.named_expressions.get(&value).cloned(),
        };
        let name = match &factor.key {
            Key::Global(path) | Key::Argument { path, is_factor: true, .. } => path.clone(),
            Key::Argument { .. } => return None,
            Key::Constant(bits) => {
                let size = f32::from_bits(*bits).abs();
                let is_plain = size == 0.0 || (1.0 / MAX_PLAIN..=MAX_PLAIN).contains(&size);
                (!is_plain).then(|| format!("{size:e}"))?
            }
            Key::Value(value) => named(*value).unwrap_or_else(|| format!("{:?}", self.function.expressions[*value])),
        };
        let function = self.function.name.as_deref().unwrap_or("a kernel");
        Some(format!("{function} multiplies by {name}"))
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
        let mut body = Body {
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
        body.collect(&body.function.body, false);
        shared.extend(body.shared());
        body.sum.set(None);
        let result = union(body.returns.iter().map(|&value| body.factors(value, &[])));
        let mut result = result.unwrap_or_default();
        // The function's own values mean nothing elsewhere.
        result.retain(|factor| !matches!(factor.key, Key::Value(_)));
        if let Some(handle) = handle {
            results.insert(handle, result);
        }
    }
    shared.sort();
    shared.dedup();
    shared
}

#[test]
fn common_factors_are_found() {
    let found = [
        ("return a * scale + b * scale;", "scale"),
        ("return a * scale - scale * b;", "scale"),
        ("return a / scale + b / scale;", "scale"),
        ("return fma(a, scale, b * scale);", "scale"),
        ("let factor = exp2(scale); return a * factor + abs(-(b * factor));", "factor"),
        ("var sum = a * scale; sum = sum + 1.0; sum = sum + b * scale; return sum;", "scale"),
        ("var sum = square(a * scale); sum += square(b * scale); return sum;", "scale"),
        ("var sum = 0.0; for (var i = 0u; i < 9u; i++) { sum += table[i] * scale; } return sum;", "scale"),
        ("let scaled = vec2<f32>(a, b) * scale; return scaled.x + scaled.y;", "scale"),
        ("return dot(vec2<f32>(a, b) * scale, vec2<f32>(1.0));", "scale"),
        ("return select(a * scale, 0.0, a > b) + passed(b * scale);", "scale"),
        ("return pair.first * pair.scale + pair.second * pair.scale;", "pair.scale"),
        ("return a + b * 1e30;", "1e30"),
    ];
    let none = [
        "return a * scale + b * b;",
        "return a + a * scale;",
        "return bitcast<f32>(bitcast<u32>(a * scale) + 1u) + bitcast<f32>(bitcast<u32>(b * scale) + 1u);",
        "var sum = 0.0; for (var i = 0u; i < 9u; i++) { let next = table[i]; sum += next * next; } return sum;",
        "let squares = vec2<f32>(a, b) * vec2<f32>(a, scale); return squares.x + squares.y;",
        "return pair.first * pair.scale + pair.second * scale;",
        "return a * 0.5 + b * 0.5;",
        "return square(a) + square(b);",
    ];
    for (body, expected) in
        found.map(|(body, factor)| (body, Some(factor))).into_iter().chain(none.map(|body| (body, None)))
    {
        let source = format!(
            "struct Pair {{ first: f32, second: f32, scale: f32 }}
            @group(0) @binding(0) var<storage> table: array<f32>;
            fn square(x: f32) -> f32 {{ return x * x; }}
            fn passed(x: f32) -> f32 {{ return x; }}
            fn total(a: f32, b: f32, scale: f32, pair: Pair) -> f32 {{ {body} }}"
        );
        let module = naga::front::wgsl::parse_str(&source).unwrap();
        let mut validator = Validator::new(ValidationFlags::all(), Capabilities::empty());
        let info = validator.validate(&module).unwrap();
        let expected: Vec<_> = expected.into_iter().map(|factor| format!("total multiplies by {factor}")).collect();
        assert_eq!(shared_factors(&module, &info), expected, "{body}");
    }
}
