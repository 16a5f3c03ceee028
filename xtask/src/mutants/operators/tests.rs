use super::*;

/// The lines that one operator makes of a body.
fn broken(operator: Operator, statement: &str) -> Vec<String> {
    let source = format!("fn f() {{ {statement} }}");
    let all = breakages(&Shader::parse(&source));
    let matching = all.iter().filter(|breakage| breakage.operator == operator).map(|breakage| breakage.apply(&source));
    let inner = matching.map(|source| source["fn f() {".len()..source.len() - 1].trim().to_string());
    inner.collect()
}

#[test]
fn assignments_and_calls_are_deleted() {
    assert_eq!(broken(Operator::Delete, "a.b[i] = c(d);"), [""]);
    assert_eq!(broken(Operator::Delete, "let a = 1.0; workgroupBarrier(); return a;"), ["let a = 1.0;  return a;"]);
    assert_eq!(
        broken(Operator::Delete, "if a { b += c; } else { c = d\n(e); }"),
        ["if a {  } else { c = d\n(e); }", "if a { b += c; } else {  }"]
    );
    assert_eq!(
        broken(Operator::Delete, "for (var i = 0u; i < 4u; i++) { a++; }"),
        ["for (var i = 0u; i < 4u; i++) {  }"]
    );
    assert_eq!(broken(Operator::Delete, "return a;"), [""; 0]);
}

#[test]
fn signs_are_flipped() {
    assert_eq!(broken(Operator::Sign, "let a = b + c;"), ["let a = b - c;"]);
    assert_eq!(broken(Operator::Sign, "a -= (b) - c[d];"), ["a += (b) - c[d];", "a -= (b) + c[d];"]);
    assert_eq!(broken(Operator::Sign, "a += b;"), ["a -= b;"]);
    assert_eq!(broken(Operator::Sign, "return -a;"), ["return a;"]);
    assert_eq!(broken(Operator::Sign, "let a = f(-b, 1e-6);"), ["let a = f(b, 1e-6);"]);
}

#[test]
fn terms_and_factors_are_dropped_as_wholes() {
    assert_eq!(broken(Operator::Drop, "a = b * c + d * e;"), ["a = b + d * e;", "a = b * c;", "a = b * c + d;"]);
    assert_eq!(broken(Operator::Drop, "let a = b / f(c).x;"), ["let a = b;"]);
    assert_eq!(broken(Operator::Drop, "let a = b && c < d + e;"), ["let a = b;", "let a = b && c < d;"]);
    assert_eq!(broken(Operator::Drop, "let a = max(b, c[d]);"), ["let a = c[d];", "let a = b;"]);
    assert_eq!(broken(Operator::Drop, "let a = -b;"), [""; 0]);
    assert_eq!(broken(Operator::Drop, "let a = f(&b);"), [""; 0]);
}

#[test]
fn max_and_min_change_places() {
    assert_eq!(
        broken(Operator::MinMax, "let a = max(b, min(c, d));"),
        ["let a = min(b, min(c, d));", "let a = max(b, max(c, d));"]
    );
    assert_eq!(broken(Operator::MinMax, "let max = step.min;"), [""; 0]);
}

#[test]
fn comparisons_are_turned_and_moved_by_one() {
    assert_eq!(broken(Operator::Compare, "if a < b { }"), ["if a >= b { }"]);
    assert_eq!(broken(Operator::Compare, "if a == b { }"), ["if a != b { }"]);
    assert_eq!(broken(Operator::Boundary, "if a < b { }"), ["if a <= b { }"]);
    assert_eq!(broken(Operator::Boundary, "if a >= b { }"), ["if a > b { }"]);
    assert_eq!(broken(Operator::Boundary, "if a == b { }"), [""; 0]);
    assert_eq!(broken(Operator::Compare, "var a: array<vec4<f32>, 2>;"), [""; 0]);
}

#[test]
fn conditions_without_a_comparison_are_negated() {
    assert_eq!(broken(Operator::Compare, "if nesterov { }"), ["if !nesterov { }"]);
    assert_eq!(broken(Operator::Compare, "if !any(a.b) { }"), ["if any(a.b) { }"]);
    assert_eq!(broken(Operator::Compare, "if any(a.b) { }"), ["if !any(a.b) { }"]);
}

#[test]
fn integers_of_index_arithmetic_are_one_smaller() {
    assert_eq!(broken(Operator::Constant, "let a = b * 4u;"), ["let a = b * 3u;"]);
    assert_eq!(broken(Operator::Constant, "let a = b[0] + c[2u];"), ["let a = b[1] + c[2u];", "let a = b[0] + c[1u];"]);
    assert_eq!(broken(Operator::Constant, "a += 1u;"), ["a += 0u;"]);
    assert_eq!(broken(Operator::Constant, "let a = b * 4.0 + 0x7fu; c = 1u; d = f(3u);"), [""; 0]);
}

#[test]
fn the_arms_of_a_select_change_places() {
    assert_eq!(
        broken(Operator::Select, "let a = select(b + c, f(d, e), g < h);"),
        ["let a = select(f(d, e), b + c, g < h);"]
    );
}

#[test]
fn bounds_lose_their_last_element() {
    assert_eq!(broken(Operator::Tail, "if i < chunk.length { }"), ["if i < chunk.length - 1u { }"]);
    assert_eq!(broken(Operator::Tail, "while i >= min(count, 4u) { }"), ["while i >= min(count, 4u) - 1u { }"]);
    assert_eq!(broken(Operator::Tail, "if a < INFINITE { }"), [""; 0]);
}

#[test]
fn what_a_smaller_breakage_stands_for_is_left_out() {
    // A literal is lowered, a deletion is no assignment to itself, a wrong value is assigned, a loop ends early, a tail
    // is left out, the leaves of a tree are dropped.
    assert_eq!(broken(Operator::Drop, "let a = b + 4u;"), [""; 0]);
    assert_eq!(broken(Operator::Sign, "let a = b + 4u;"), [""; 0]);
    assert_eq!(broken(Operator::Sign, "let a = b[c + d];"), [""; 0]);
    assert_eq!(broken(Operator::Drop, "a = a + b;"), [""; 0]);
    assert_eq!(broken(Operator::Drop, "a.b[0] = a.b[0] - c.d;"), [""; 0]);
    assert_eq!(broken(Operator::Drop, "a = a + b + c;"), ["a = a + c;", "a = a + b;"]);
    assert_eq!(broken(Operator::Drop, "a = b + c;"), ["a = b;"]);
    assert_eq!(broken(Operator::Delete, "a = b + c; d = d + e;"), ["a = b + c;"]);
    assert_eq!(broken(Operator::Compare, "if a < length { } if a == length { }").len(), 1);
    assert_eq!(broken(Operator::Compare, "for (var i = 0u; i < 4u; i++) { }"), [""; 0]);
    assert_eq!(
        broken(Operator::Drop, "let a = max(max(b, c), d);"),
        ["let a = max(b, c);", "let a = max(c, d);", "let a = max(b, d);"]
    );
    assert_eq!(broken(Operator::MinMax, "let a = max(max(b, c), d);"), ["let a = min(max(b, c), d);"]);
}
