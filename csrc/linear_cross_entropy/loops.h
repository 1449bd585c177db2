// The loops over a tile of logits that every instruction set supplies for linear_cross_entropy.
#pragma once

#include <cstddef>

#include "isa.h"

namespace logitkit {

/// Tiles are those of AttentionLoops, tile[class][lane]: lanes are rows of the input, and the
/// logits z are in units of ln 2. A tile of targets t is like one of logits. Loops work on the
/// first `vectors` vectors of lanes; a null `weights` is 1 for every class.
template <class T>
struct LayerLossLoops {
  /// tile[j][i] += factor * bias[j].
  void (*add_bias)(T* tile, std::size_t count, std::size_t vectors, const T* bias, T factor);

  /// Running sums over the classes of each lane. With m' = max(m, tile) and a = 2^(m - m'):
  /// sum = a sum + sum of 2^(z - m'). Where `mean` is not null it is kept at the sum of
  /// 2^(z - m') (z - m').
  void (*reduce)(const T* tile, std::size_t count, std::size_t vectors, T* max, T* sum, T* mean);

  /// dot[i] += sum over j of weights[j] t[j][i] z[j][i], a null `targets` being 1 everywhere.
  /// Terms of weight or target 0 are 0, whatever z is.
  void (*dot)(const T* tile, const T* targets, const T* weights, std::size_t count,
              std::size_t vectors, T* dot);

  /// tile = (factor[i] 2^(z - logsumexp[i]) - weights[j] (peak[i] t[j][i] + spread[i])) cap', with
  /// the derivative cap' = 1 - (z / cap)^2 of capped logits, 1 if `cap` is 0. Without `targets`
  /// there is no term of `peak`, and without `spread` no target at all.
  void (*grade)(T* tile, std::size_t count, std::size_t vectors, const T* logsumexp,
                const T* factor, const T* targets, const T* weights, const T* peak, const T* spread,
                T cap);

  /// sums[j] += sum of tile[j][i] over the lanes.
  void (*add_rows)(const T* tile, std::size_t count, std::size_t vectors, T* sums);

  /// to[j][d] = sum over the rows i of tile[j][i] * x[i][d], added to what is there if `add`, for
  /// j < count and d < depth, which is a multiple of the vectors' width and the row stride of
  /// `to`. The tile of the rows beyond the lanes begins `next_tile` elements later, and so on. Of
  /// x the first `lanes` columns of all rows come first, columns[i][lane], then the next: that is
  /// what is read of x at a time. Meanwhile `ahead_size` elements from `ahead` on are asked for.
  void (*spread)(const T* tile, std::size_t next_tile, const T* columns, std::size_t row_count,
                 std::size_t count, std::size_t depth, bool add, T* to, const T* ahead,
                 std::size_t ahead_size);
};

struct AllLayerLossLoops {
  LayerLossLoops<float> float32;
  LayerLossLoops<double> float64;
};

/// The loops of `isa`, which this build must have.
const AllLayerLossLoops& layer_loss_loops(Isa isa);

template <class T>
const LayerLossLoops<T>& layer_loss_loops_for(Isa isa);

namespace scalar { extern const AllLayerLossLoops layer_loss_loops; }
namespace neon { extern const AllLayerLossLoops layer_loss_loops; }
namespace avx2 { extern const AllLayerLossLoops layer_loss_loops; }
namespace avx512 { extern const AllLayerLossLoops layer_loss_loops; }

}  // namespace logitkit
