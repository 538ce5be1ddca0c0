//! Symmetric positive definite matrices stored as tiles of their lower triangle, and their inverse in place.
//!
//! The inverse is by block sweeps (Goodnight: "A Tutorial on the SWEEP Operator", The American Statistician 1979):
//! for each diagonal tile, factor it, and subtract one symmetric product from all other tiles. That is `n^3`
//! operations, as many as Cholesky factor plus inverse from it, but all of them are products of square tiles that fit
//! the cache, and memory is half of a full matrix. Diagonal tiles are factored in double precision.
//!
//! Each tile is updated by one thread in a fixed order, so the result does not depend on the number of threads.
//! Refuses: indefinite matrices; pivoting.

use super::error::AlgorithmError;
use faer::linalg::matmul::matmul;
use faer::{Accum, Mat, MatMut, MatRef, Par};
use rayon::prelude::*;

/// Rows of a tile. 256 by 256 floats are 256 KiB: three of them fit the second-level cache.
pub const TILE: usize = 256;

/// A symmetric matrix as tiles of its lower triangle.
///
/// The tile of block row `i` and block column `j <= i` has index `i * (i + 1) / 2 + j` and is row-major. Rows past
/// the order are those of the identity. In tiles of the diagonal both triangles are kept.
#[derive(Debug, Clone)]
pub struct TiledSymmetric {
    order: usize,
    tiles: Vec<Vec<f32>>,
}

/// The memory in bytes of a [`TiledSymmetric`] of this order, with what inverting it needs.
pub fn peak_bytes(order: usize) -> usize {
    let blocks = order.div_ceil(TILE);
    (blocks * (blocks + 1) / 2 + 2 * blocks + 8) * TILE * TILE * size_of::<f32>()
}

fn view(tile: &[f32]) -> MatRef<'_, f32> {
    MatRef::from_row_major_slice(tile, TILE, TILE)
}

fn view_mut(tile: &mut [f32]) -> MatMut<'_, f32> {
    MatMut::from_row_major_slice_mut(tile, TILE, TILE)
}

impl TiledSymmetric {
    /// Builds the matrix from its lower triangle: `fill(row, values)` adds to `values[0..=row]`, which holds zeros.
    /// `values` is as long as the row of tiles; what is written past the diagonal is ignored.
    pub fn from_lower_rows(order: usize, fill: impl Fn(usize, &mut [f32]) + Sync) -> Self {
        let blocks = order.div_ceil(TILE);
        let tile_rows: Vec<Vec<Vec<f32>>> = (0..blocks)
            .into_par_iter()
            .map(|block| {
                let mut tiles = vec![vec![0.0; TILE * TILE]; block + 1];
                let mut values = vec![0.0_f32; (block + 1) * TILE];
                for local in 0..TILE {
                    let row = block * TILE + local;
                    values.fill(0.0);
                    if row < order {
                        fill(row, &mut values);
                        values[row + 1..].fill(0.0);
                    } else {
                        values[row] = 1.0;
                    }
                    for (tile, values) in tiles.iter_mut().zip(values.chunks_exact(TILE)) {
                        tile[local * TILE..][..TILE].copy_from_slice(values);
                    }
                }
                mirror_lower(&mut tiles[block]);
                tiles
            })
            .collect();
        Self { order, tiles: tile_rows.into_iter().flatten().collect() }
    }

    /// The number of rows.
    pub fn order(&self) -> usize {
        self.order
    }

    fn blocks(&self) -> usize {
        self.order.div_ceil(TILE)
    }

    /// One entry.
    pub fn get(&self, row: usize, column: usize) -> f32 {
        let (row, column) = (row.max(column), row.min(column));
        self.tiles[index(row / TILE, column / TILE)][row % TILE * TILE + column % TILE]
    }

    /// The diagonal.
    pub fn diagonal(&self) -> Vec<f32> {
        (0..self.order).map(|row| self.get(row, row)).collect()
    }

    /// Adds to the diagonal.
    pub fn add_to_diagonal(&mut self, amount: impl Fn(usize) -> f32) {
        for row in 0..self.order {
            self.tiles[index(row / TILE, row / TILE)][row % TILE * (TILE + 1)] += amount(row);
        }
    }

    /// Writes `TILE` whole rows, or fewer at the end, of block row `block` as a row-major matrix of `order` columns.
    pub fn copy_block_row(&self, block: usize, rows: &mut Vec<f32>) {
        let row_count = TILE.min(self.order - block * TILE);
        rows.clear();
        rows.resize(row_count * self.order, 0.0);
        for other in 0..self.blocks() {
            let column = other * TILE;
            let width = TILE.min(self.order - column);
            let tile = &self.tiles[index(block.max(other), block.min(other))];
            for local in 0..row_count {
                let target = &mut rows[local * self.order + column..][..width];
                if other <= block {
                    target.copy_from_slice(&tile[local * TILE..][..width]);
                } else {
                    let source = tile[local..].iter().step_by(TILE);
                    target.iter_mut().zip(source).for_each(|(target, &value)| *target = value);
                }
            }
        }
    }

    /// Replaces the matrix by its inverse.
    ///
    /// # Errors
    /// [`AlgorithmError::Singular`] naming `regularisation` where a pivot is not positive; the matrix is then
    /// meaningless.
    pub fn invert(&mut self, regularisation: &'static str) -> Result<(), AlgorithmError> {
        for block in 0..self.blocks() {
            self.sweep(block).ok_or(AlgorithmError::Singular(regularisation))?;
        }
        // After all sweeps the matrix is minus the inverse.
        self.tiles.par_iter_mut().for_each(|tile| tile.iter_mut().for_each(|value| *value = -*value));
        Ok(())
    }

    /// One sweep. With `D` the diagonal tile and `V` its column of tiles: `A -= V D^-1 V'`, `V <- V D^-1`,
    /// `D <- -D^-1`. The product is formed as `W W'` with `W = V L^-T` and `D = L L'`, which keeps it symmetric.
    fn sweep(&mut self, pivot: usize) -> Option<()> {
        let (factor_inverse, pivot_inverse) = invert_pivot(&self.tiles[index(pivot, pivot)])?;
        let columns: Vec<(Vec<f32>, Vec<f32>)> = (0..self.blocks())
            .into_par_iter()
            .map(|block| {
                let mut product = vec![0.0; TILE * TILE];
                let mut solved = vec![0.0; TILE * TILE];
                if block != pivot {
                    let tile = view(&self.tiles[index(block.max(pivot), block.min(pivot))]);
                    let tile = if block > pivot { tile } else { tile.transpose() };
                    let factor = view(&factor_inverse);
                    matmul(view_mut(&mut product), Accum::Replace, tile, factor.transpose(), 1.0, Par::Seq);
                    matmul(view_mut(&mut solved), Accum::Replace, view(&product), factor, 1.0, Par::Seq);
                }
                (product, solved)
            })
            .collect();
        self.tiles.par_iter_mut().enumerate().for_each(|(tile_index, tile)| {
            let (row, column) = position(tile_index);
            if row == pivot && column == pivot {
                tile.iter_mut().zip(&pivot_inverse).for_each(|(value, &inverse)| *value = -inverse);
            } else if column == pivot {
                tile.copy_from_slice(&columns[row].1);
            } else if row == pivot {
                view_mut(tile).copy_from(view(&columns[column].1).transpose());
            } else {
                let (left, right) = (view(&columns[row].0), view(&columns[column].0).transpose());
                matmul(view_mut(tile), Accum::Add, left, right, -1.0, Par::Seq);
            }
        });
        Some(())
    }
}

fn index(row: usize, column: usize) -> usize {
    row * (row + 1) / 2 + column
}

/// The block row and block column of a tile.
fn position(index_of_tile: usize) -> (usize, usize) {
    let mut row = (((8 * index_of_tile + 1) as f64).sqrt() as usize).saturating_sub(1) / 2;
    while index(row + 1, 0) <= index_of_tile {
        row += 1;
    }
    (row, index_of_tile - index(row, 0))
}

fn mirror_lower(tile: &mut [f32]) {
    for row in 0..TILE {
        for column in row + 1..TILE {
            tile[row * TILE + column] = tile[column * TILE + row];
        }
    }
}

/// For a tile `D = L L'`: `L^-1` and `D^-1`, row-major; `None` unless positive definite.
fn invert_pivot(tile: &[f32]) -> Option<(Vec<f32>, Vec<f32>)> {
    let pivot = Mat::from_fn(TILE, TILE, |row, column| f64::from(tile[row * TILE + column]));
    let factor = pivot.llt(faer::Side::Lower).ok()?;
    let mut factor_inverse = Mat::<f64>::identity(TILE, TILE);
    faer::linalg::triangular_solve::solve_lower_triangular_in_place(
        factor.L(),
        factor_inverse.as_mut(),
        Par::Seq,
    );
    let inverse = factor_inverse.transpose() * &factor_inverse;
    let row_major = |matrix: &Mat<f64>| -> Option<Vec<f32>> {
        let values = (0..TILE * TILE).map(|entry| matrix[(entry / TILE, entry % TILE)] as f32);
        let values: Vec<f32> = values.collect();
        values.iter().all(|value| value.is_finite()).then_some(values)
    };
    Some((row_major(&factor_inverse)?, row_major(&inverse)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    fn random_matrix(order: usize, seed: u64) -> Mat<f64> {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let factor = Mat::from_fn(order, order + 5, |_, _| f64::from(rng.random::<f32>() - 0.3));
        let mut matrix = &factor * factor.transpose();
        (0..order).for_each(|row| matrix[(row, row)] += 1.0);
        matrix
    }

    fn tiled(matrix: &Mat<f64>) -> TiledSymmetric {
        TiledSymmetric::from_lower_rows(matrix.nrows(), |row, values| {
            (0..=row).for_each(|column| values[column] += matrix[(row, column)] as f32);
        })
    }

    #[test]
    fn the_inverse_times_the_matrix_is_the_identity() {
        for (order, seed) in [(0, 0), (1, 1), (5, 2), (256, 3), (257, 4), (600, 5)] {
            let matrix = random_matrix(order, seed);
            let mut inverse = tiled(&matrix);
            inverse.invert("l2").unwrap();
            let inverse = Mat::from_fn(order, order, |row, column| f64::from(inverse.get(row, column)));
            let product = &matrix * &inverse;
            for row in 0..order {
                for column in 0..order {
                    let expected = if row == column { 1.0 } else { 0.0 };
                    assert!(
                        (product[(row, column)] - expected).abs() < 2e-2,
                        "order {order}: {row} {column}"
                    );
                }
            }
        }
    }

    #[test]
    fn block_rows_are_whole_rows() {
        let matrix = random_matrix(300, 7);
        let tiles = tiled(&matrix);
        let mut rows = Vec::new();
        for block in 0..2 {
            tiles.copy_block_row(block, &mut rows);
            for (entry, &value) in rows.iter().enumerate() {
                assert_eq!(value, matrix[(block * TILE + entry / 300, entry % 300)] as f32);
            }
        }
        assert_eq!(rows.len(), 44 * 300);
    }

    #[test]
    fn an_indefinite_matrix_is_refused() {
        let mut tiles = tiled(&random_matrix(3, 1));
        tiles.add_to_diagonal(|row| if row == 1 { -100.0 } else { 0.0 });
        assert_eq!(tiles.invert("l2"), Err(AlgorithmError::Singular("l2")));
    }

    #[test]
    fn tiles_are_numbered_row_by_row() {
        for tile in 0..5000 {
            let (row, column) = position(tile);
            assert!(column <= row);
            assert_eq!(index(row, column), tile);
        }
    }

    #[test]
    fn threads_do_not_change_the_inverse() {
        let tiles = tiled(&random_matrix(520, 9));
        crate::algorithms::testing::check_threads_agree(|| {
            let mut tiles = tiles.clone();
            tiles.invert("l2").unwrap();
            tiles.tiles
        });
    }
}
