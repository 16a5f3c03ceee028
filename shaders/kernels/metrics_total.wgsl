// Adds the observed items of each segment up. One workgroup per segment. Twin: `totals` in src/cpu/observe.rs.

@group(0) @binding(1) var<uniform> control: Control;

@compute @workgroup_size(256)
fn observe_totals(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let segment = workgroup.y * grid.x + workgroup.x;
    // The grid may overhang.
    let exists = (control.apply != 0u) & (segment < observed[0].x);
    var sums = Sums();
    if exists {
        let items = observed[items_row_of(segment)];
        // equivalent(boundary): the item behind is of another segment, and behind all lavapipe reads zeros
        for (var item = items.x + lane; item < items.y; item += 256u) {
            // Items of other segments may lie between those of one.
            let is_own = observed[row_of_item(item)].z == segment;
            let of_item = sums_at(row_of_item(item) + 1u);
            sums.squares = sums.squares + select(vec4<f32>(0.0), of_item.squares, is_own);
            sums.counts = sums.counts + select(vec4<f32>(0.0), of_item.counts, is_own);
        }
    }
    keep_sums(sums_row_of(segment), sums, lane, exists);
    // equivalent: all threads write the same
    let is_first = lane == 0u;
    // equivalent(& is_first): all threads write the same
    if exists & (segment == 0u) & is_first {
        observed[1] = vec4<u32>(control.step + control.skipped, 0u, 0u, 0u);
    }
}
