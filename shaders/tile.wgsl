// The tile, the unit of reproducible sums: see src/tile.rs.

const TILE_LEN: u32 = 8192u;
