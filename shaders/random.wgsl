// Random bits from a seed, the applied step and the flat index: equal on both engines, however the work is cut.

// The finalizer of MurmurHash3.
fn mix(numbers: vec4<u32>) -> vec4<u32> {
    var hash = numbers;
    hash = (hash ^ (hash >> vec4<u32>(16u))) * vec4<u32>(0x85ebca6bu);
    hash = (hash ^ (hash >> vec4<u32>(13u))) * vec4<u32>(0xc2b2ae35u);
    return hash ^ (hash >> vec4<u32>(16u));
}

// The bits of four elements in a step.
fn random_bits(seed: u32, t: u32, elements: vec4<u32>) -> vec4<u32> {
    return mix(vec4<u32>(seed) ^ mix(vec4<u32>(t) ^ mix(elements)));
}

// Further bits of the same elements.
fn further_bits(bits: vec4<u32>, number: u32) -> vec4<u32> {
    return mix(bits ^ vec4<u32>(number * 0x9e3779b9u));
}
