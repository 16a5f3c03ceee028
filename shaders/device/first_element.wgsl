// The first of the sixteen elements of an invocation: four in each of four rows of 32. Eight invocations share 128
// contiguous elements.

fn first_element(workgroup: vec3<u32>, grid: vec3<u32>, lane: u32) -> u32 {
    return (workgroup.y * grid.x + workgroup.x) * 1024u + lane / 8u * 128u + lane % 8u * 4u;
}
