//! The WGSL of streams of 8-bit codes and of their scales.

use std::fmt::Write;

use super::variant::Variant;
use crate::params::SeenParams;
use crate::plan::{Pass, StepPlan};
use crate::storage::{Access, CodeMap, StreamSpec};

/// Blocks of a state in the 1,024 elements of a workgroup, at most.
const MAX_BLOCKS: usize = 32;

/// Whether the stream holds scales of codes.
pub(super) fn is_scale(plan: &StepPlan, stream: &StreamSpec) -> bool {
    plan.coded.iter().any(|coded| plan.states[coded.scales].name == stream.name)
}

/// Whether a kernel writes 8-bit states.
pub(super) fn writes_blocks(plan: &StepPlan, pass: Pass, variant: Variant) -> bool {
    let updates = matches!(pass, Pass::Update | Pass::UpdateSinglePass | Pass::AuxiliaryUpdate(_));
    let is_temporary = StepPlan::written_params(pass) == SeenParams::Alone;
    !plan.coded.is_empty() && !variant.f32_moments && updates && !is_temporary
}

/// Imports of a kernel that writes 8-bit states.
pub(super) fn write_imports(plan: &StepPlan, pass: Pass, variant: Variant) -> Vec<String> {
    let is_stochastic = plan.settings.precision.rounding.seed().is_some();
    let written = plan.coded.iter().filter(|_| writes_blocks(plan, pass, variant));
    let imports = written.flat_map(|coded| coded.map.write_imports(is_stochastic));
    imports.map(|import| format!("import package::storage::{import};\n")).collect()
}

/// The declarations of a stream of codes and of its scales, and their accessors. Chunks begin with blocks. `places` are the
/// binding of each, and the chunk's shift in it.
pub(super) fn accessors(
    StreamSpec { name, access, .. }: &StreamSpec,
    (map, scale): (CodeMap, &str),
    places: &[(usize, String); 2],
) -> String {
    let mode = if *access == Access::Read { "read" } else { "read_write" };
    let declared = |name: &str, binding: usize| {
        format!("@group(0) @binding({binding}) var<storage, {mode}> {name}_words: array<u32>;\n\n")
    };
    let [(of_codes, shift), (of_scales, scale_shift)] = places;
    let codes = format!("{name}_words[(element + {shift}) / 4u]");
    let block = format!("{scale}_words[element / {}u + {scale_shift}]", map.block_len());
    let mut text = declared(name, *of_codes) + &declared(scale, *of_scales);
    let read = map.read(&codes, &block);
    let _ = writeln!(text, "fn load_{name}(element: u32) -> vec4<u32> {{\n    return {read};\n}}\n");
    if *access == Access::ReadWrite {
        let _ = writeln!(text, "fn store_{name}(element: u32, word: u32) {{\n    {codes} = word;\n}}\n");
        let _ = writeln!(text, "fn store_{scale}(element: u32, scale: u32) {{\n    {block} = scale;\n}}\n");
    }
    text
}

/// The scales that a workgroup finds before it writes codes.
#[derive(Debug, Default)]
pub(super) struct BlockScales {
    /// Slots of all states.
    slots: usize,
    raised: String,
}

impl BlockScales {
    /// The statements that write four numbers of a state, given their f32 bits. Inactive ones do not count for the scale.
    pub(super) fn write(
        &mut self,
        name: &str,
        (map, scale): &(CodeMap, String),
        bits: &str,
        random: Option<&str>,
    ) -> String {
        let len = map.block_len();
        let slot = format!("block_scales[{}u + element % 1024u / {len}u]", self.slots);
        self.slots += MAX_BLOCKS;
        let _ = writeln!(
            self.raised,
            "    atomicMax(&{slot}, {});",
            map.scale_of(&format!("select(vec4<u32>(0u), {bits}, is_active)"))
        );
        let word = map.word(&format!("select(words.{name}, {bits}, is_active)"), scale, random);
        format!(
            "    let {scale} = atomicLoad(&{slot});\n    store_{name}(element, {word});\n    \
             if element % {len}u == 0u {{\n        store_{scale}(element, {scale});\n    }}\n"
        )
    }

    /// `clear_scales` and `raise_scales`, if there are 8-bit states.
    pub(super) fn functions(&self) -> String {
        let Self { slots, raised } = self;
        if raised.is_empty() {
            return String::new();
        }
        format!(
            "var<workgroup> block_scales: array<atomic<u32>, {slots}>;\n\n\
             fn clear_scales(lane: u32) {{\n    \
             for (var slot = lane; slot < {slots}u; slot += 64u) {{\n        \
             atomicStore(&block_scales[slot], 0u);\n    }}\n}}\n\n\
             fn raise_scales(\n    element: u32,\n    words: Words,\n    updated: Element,\n    \
             states: TransformStates,\n    is_active: vec4<bool>,\n) {{\n{raised}}}\n\n"
        )
    }
}
