#include "diffusion_update/diffusion_update_cuda.h"

#include "cuda/launch.h"
#include "random/laws_cuda.h"
#include "random/row_packs_cuda.h"

namespace logitkit::cuda {
namespace {

template <class T>
__device__ T coefficient(const ByRow<T>& of, std::size_t row) {
  return of.of_row != nullptr ? of.of_row[row] : of.of_all;
}

template <bool noisy, class S>
__global__ void __launch_bounds__(pack_threads)
    update_packs(DiffusionUpdate<S> update, Rows rows, RowPacks packs, S* out, bool aligned) {
  using T = Compute<S>;
  constexpr int pack = pack_size<S>;
  const PackPlace place(packs, pack);
  if (!place.is_inside) return;
  const std::size_t offset = place.row * packs.count + place.first;
  const std::size_t n = packs.count - place.first;
  const bool two = update.y != nullptr;

  T x[pack], y[pack];
  load_pack(update.x + offset, n, aligned, T(0), x);
  if (two) load_pack(update.y + offset, n, aligned, T(0), y);
  const T a = coefficient(update.a, place.row), b = coefficient(update.b, place.row);
#pragma unroll
  for (int k = 0; k < pack; ++k) {
    x[k] = product(a, x[k]);
    if (two) x[k] = fused(b, y[k], x[k]);
  }
  if constexpr (noisy) {
    const T c = coefficient(update.c, place.row);
    if (c != T(0)) {
      T noise[pack];
      draw<NormalLaw>(stream_of(rows, place.row), place.first, noise);
#pragma unroll
      for (int k = 0; k < pack; ++k) x[k] = fused(c, noise[k], x[k]);
    }
  }
  S results[pack];
#pragma unroll
  for (int k = 0; k < pack; ++k) {
    // A NaN has to stay one.
    const T raised = update.lower > x[k] ? update.lower : x[k];
    results[k] = stored<S>(update.upper < raised ? update.upper : raised);
  }
  store_pack(results, out + offset, n, aligned);
}

}  // namespace

template <class S>
cudaError_t diffusion_update(const DiffusionUpdate<S>& update, const Rows& rows, std::size_t count,
                             S* out, cudaStream_t stream) {
  constexpr int pack = pack_size<S>;
  const RowPacks packs(rows.count, count, pack);
  const bool aligned = has_aligned_packs(update.x, count, pack) &&
                       has_aligned_packs(out, count, pack) &&
                       (update.y == nullptr || has_aligned_packs(update.y, count, pack));
  const bool noisy = update.c.of_row != nullptr || update.c.of_all != Compute<S>(0);
  const auto kernel = noisy ? &update_packs<true, S> : &update_packs<false, S>;
  return launch(kernel, {{packs.blocks()}, dim3(pack_threads), 0, stream}, update, rows, packs, out,
                aligned);
}

template cudaError_t diffusion_update(const DiffusionUpdate<float>&, const Rows&, std::size_t,
                                      float*, cudaStream_t);
template cudaError_t diffusion_update(const DiffusionUpdate<double>&, const Rows&, std::size_t,
                                      double*, cudaStream_t);
template cudaError_t diffusion_update(const DiffusionUpdate<__half>&, const Rows&, std::size_t,
                                      __half*, cudaStream_t);
template cudaError_t diffusion_update(const DiffusionUpdate<__nv_bfloat16>&, const Rows&,
                                      std::size_t, __nv_bfloat16*, cudaStream_t);

}  // namespace logitkit::cuda
