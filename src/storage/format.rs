/// The f32 bits of the four 16-bit numbers from element `at` on of `words`, by a function over a window of three words.
pub(super) fn load_halves(function: &str, words: &str, at: &str) -> String {
    // A chunk may begin within four elements. The first of them then lie before the binding, and `at` has wrapped around:
    // the sum wraps back before it is divided.
    let word = |offset| format!("{words}[({at} + {offset}u) / 2u]");
    format!("{function}(vec3<u32>({}, {}, {}), {at})", word(0), word(2), word(4))
}

/// Stores the words of 16-bit numbers that hold an active one, packed by a function.
pub(super) fn store_halves(function: &str, words: &str, at: &str) -> String {
    let store = |pair: &str, word: &str, offset: u32| {
        format!("if any(is_active.{pair}) {{\n        {words}[{at} / 2u + {offset}u] = words.{word};\n    }}")
    };
    format!("let words = {function}(bits);\n    {}\n    {}", store("xy", "x", 0), store("zw", "y", 1))
}

/// The shader side of a storage format: its WGSL module, and expressions over the module's functions.
pub(crate) trait Format {
    /// Name of the module in `shaders/storage`.
    fn name(&self) -> &'static str;

    /// Text of the module.
    fn wgsl(&self) -> &'static str;

    /// Functions that the expressions call.
    fn functions(&self) -> &'static [&'static str];

    /// Type of the words of four numbers.
    fn quad_type(&self) -> &'static str;

    /// The f32 bits of the four numbers whose words `quad` is.
    fn load_quad(&self, quad: &str) -> String;

    /// The f32 bits of the four numbers from element `at` on of `words`, an array of u32.
    fn load_each(&self, words: &str, at: &str) -> String;

    /// Statement that stores four numbers as `quad`, given their f32 `bits`.
    fn store_quad(&self, quad: &str) -> String;

    /// Statements that store the active ones of four numbers from element `at` on, given `bits` and `is_active`. Of 16-bit
    /// numbers, `at` is even, and the bits of an inactive number are those loaded.
    fn store_each(&self, words: &str, at: &str) -> String;
}
