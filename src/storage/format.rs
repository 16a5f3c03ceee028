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

    /// Statement that stores four numbers as `quad`, given their f32 `bits`. `None` for formats that kernels only read.
    fn store_quad(&self, quad: &str) -> Option<String>;

    /// Statements that store the active ones of four numbers from element `at` on, given `bits` and `is_active`.
    fn store_each(&self, words: &str, at: &str) -> Option<String>;
}
