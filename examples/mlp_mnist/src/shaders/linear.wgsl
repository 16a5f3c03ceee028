// The three matrix products of a linear layer y = x · Wᵀ + b, with W as [OUT, IN] like PyTorch's nn.Linear:
//   forward      y  = x · Wᵀ + b, with ReLU where the layer is hidden    [rows, OUT]
//   grad_weight  dW = dyᵀ · x                                            [OUT, IN]
//   grad_input   dx = (dy · W) ⊙ [x > 0], x being the ReLU's output      [rows, IN]
//
// A workgroup of 8 × 8 threads computes a tile of 32 × 32 results, each thread 4 × 4 of them in registers: eight
// numbers loaded from workgroup memory then feed sixteen multiply-adds. Sums run over k in one fixed order, so reruns
// agree bit for bit.

override IN: u32;
override OUT: u32;
override RELU: bool = false;
// Formats of `b` and `extra` in forward and grad_input, of `result` in grad_weight: see numbers.wgsl. Bindings may begin
// before a tensor: its first number follows.
override B_FORMAT: u32 = 0u;
override B_FIRST: u32 = 0u;
override EXTRA_FORMAT: u32 = 0u;
override EXTRA_FIRST: u32 = 0u;
override RESULT_FORMAT: u32 = 0u;
override RESULT_FIRST: u32 = 0u;

struct Batch {
    first: u32,
    rows: u32,
}

@group(0) @binding(0) var<uniform> batch: Batch;

@group(1) @binding(0) var<storage, read> a: array<f32>;
@group(1) @binding(1) var<storage, read> b: array<u32>;
@group(1) @binding(2) var<storage, read_write> result: array<u32>;
// forward: the bias; grad_input: the layer's input; grad_weight: not bound.
@group(1) @binding(3) var<storage, read> extra: array<u32>;

const TILE: u32 = 32u;
const TILE_K: u32 = 16u;
const THREADS: u32 = 64u;
const QUADS: u32 = TILE / 4u;

// [TILE_K][TILE] each; a vec4 holds four neighbours along m (or n).
var<workgroup> tile_a: array<vec4<f32>, TILE_K * QUADS>;
var<workgroup> tile_b: array<vec4<f32>, TILE_K * QUADS>;

// One factor of a product: element (i, k), i along the result and k along the sum, lies at i * step_i + k * step_k.
struct Factor {
    size_i: u32,
    step_i: u32,
    step_k: u32,
}

// Which quad of the tile a thread fetches: neighbouring threads walk along the dimension that is contiguous in memory.
fn quad_of(slot: u32, step_k: u32) -> vec2<u32> {
    if step_k == 1u {
        return vec2(slot / TILE_K, slot % TILE_K);
    }
    return vec2(slot % QUADS, slot / QUADS);
}

fn load_a(f: Factor, i: u32, k: u32, size_k: u32) -> f32 {
    if i < f.size_i && k < size_k {
        return a[i * f.step_i + k * f.step_k];
    }
    return 0.0;
}

// The bits of 0 are those of every format's 0.
fn load_b(f: Factor, i: u32, k: u32, size_k: u32) -> u32 {
    if i < f.size_i && k < size_k {
        let at = B_FIRST + i * f.step_i + k * f.step_k;
        return number_bits(B_FORMAT, b[word_of(B_FORMAT, at)], at);
    }
    return 0u;
}

fn load_extra(index: u32) -> f32 {
    let at = EXTRA_FIRST + index;
    return widened(EXTRA_FORMAT, vec4(number_bits(EXTRA_FORMAT, extra[word_of(EXTRA_FORMAT, at)], at))).x;
}

// Stores the first `count` of four gradients from number `index` on. For 16 bits both are even: no word has two threads.
fn store_gradients(index: u32, values: vec4<f32>, count: u32) {
    let at = RESULT_FIRST + index;
    if RESULT_FORMAT == F32 {
        for (var j = 0u; j < count; j++) {
            result[at + j] = bitcast<u32>(values[j]);
        }
        return;
    }
    let words = narrowed_words(RESULT_FORMAT, values);
    for (var j = 0u; j < count / 2u; j++) {
        result[at / 2u + j] = words[j];
    }
}

fn product(fa: Factor, fb: Factor, size_k: u32, tile: vec2<u32>, thread: u32) -> array<vec4<f32>, 4> {
    let column = thread % QUADS;
    let row = thread / QUADS;
    var sum0 = vec4(0.0);
    var sum1 = vec4(0.0);
    var sum2 = vec4(0.0);
    var sum3 = vec4(0.0);
    for (var k0 = 0u; k0 < size_k; k0 += TILE_K) {
        for (var slot = thread; slot < TILE_K * QUADS; slot += THREADS) {
            let qa = quad_of(slot, fa.step_k);
            let ia = tile.y * TILE + qa.x * 4u;
            let ka = k0 + qa.y;
            tile_a[qa.y * QUADS + qa.x] = vec4(
                load_a(fa, ia, ka, size_k),
                load_a(fa, ia + 1u, ka, size_k),
                load_a(fa, ia + 2u, ka, size_k),
                load_a(fa, ia + 3u, ka, size_k),
            );
            let qb = quad_of(slot, fb.step_k);
            let ib = tile.x * TILE + qb.x * 4u;
            let kb = k0 + qb.y;
            let bits = vec4(
                load_b(fb, ib, kb, size_k),
                load_b(fb, ib + 1u, kb, size_k),
                load_b(fb, ib + 2u, kb, size_k),
                load_b(fb, ib + 3u, kb, size_k),
            );
            tile_b[qb.y * QUADS + qb.x] = widened(B_FORMAT, bits);
        }
        workgroupBarrier();
        for (var k = 0u; k < TILE_K; k++) {
            let va = tile_a[k * QUADS + row];
            let vb = tile_b[k * QUADS + column];
            sum0 += va.x * vb;
            sum1 += va.y * vb;
            sum2 += va.z * vb;
            sum3 += va.w * vb;
        }
        workgroupBarrier();
    }
    return array(sum0, sum1, sum2, sum3);
}

@compute @workgroup_size(THREADS)
fn forward(@builtin(workgroup_id) tile: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    var sums = product(Factor(batch.rows, IN, 1u), Factor(OUT, IN, 1u), IN, tile.xy, thread);
    let row = tile.y * TILE + thread / QUADS * 4u;
    let column = tile.x * TILE + thread % QUADS * 4u;
    for (var i = 0u; i < 4u; i++) {
        for (var j = 0u; j < 4u; j++) {
            if row + i < batch.rows && column + j < OUT {
                let y = sums[i][j] + load_extra(column + j);
                result[(row + i) * OUT + column + j] = bitcast<u32>(select(y, max(y, 0.0), RELU));
            }
        }
    }
}

@compute @workgroup_size(THREADS)
fn grad_weight(@builtin(workgroup_id) tile: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    var sums = product(Factor(OUT, 1u, OUT), Factor(IN, 1u, IN), batch.rows, tile.xy, thread);
    let row = tile.y * TILE + thread / QUADS * 4u;
    let column = tile.x * TILE + thread % QUADS * 4u;
    for (var i = 0u; i < 4u; i++) {
        if row + i < OUT && column < IN {
            store_gradients((row + i) * IN + column, sums[i], min(IN - column, 4u));
        }
    }
}

@compute @workgroup_size(THREADS)
fn grad_input(@builtin(workgroup_id) tile: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    var sums = product(Factor(batch.rows, OUT, 1u), Factor(IN, 1u, IN), OUT, tile.xy, thread);
    let row = tile.y * TILE + thread / QUADS * 4u;
    let column = tile.x * TILE + thread % QUADS * 4u;
    for (var i = 0u; i < 4u; i++) {
        for (var j = 0u; j < 4u; j++) {
            let at = (row + i) * IN + column + j;
            if row + i < batch.rows && column + j < IN {
                result[at] = bitcast<u32>(select(0.0, sums[i][j], load_extra(at) > 0.0));
            }
        }
    }
}
