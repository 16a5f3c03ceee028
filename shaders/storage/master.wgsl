// A 16-bit parameter with an f32 master.

// The f32 bits of the parameter, given those of the 16-bit number, of the master, and of the master rounded to 16 bits. A
// number that is not the rounded master was set by the program, and counts.
fn master_bits(seen: vec4<u32>, master: vec4<u32>, rounded: vec4<u32>) -> vec4<u32> {
    return select(seen, master, seen == rounded);
}
