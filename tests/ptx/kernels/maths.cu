// SPDX-License-Identifier: Apache-2.0
// Floating point functions. maths.ptx is made from this by regenerate.sh.
extern "C" __global__ void doubles(const double *x, double *out, int n)
{
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n)
        return;
    double v = x[i];
    out[i] = sin(v);
    out[i + n] = cos(v);
    out[i + 2 * n] = exp(v);
    out[i + 3 * n] = log(v);
    out[i + 4 * n] = pow(v, 1.7);
    out[i + 5 * n] = erf(v);
    out[i + 6 * n] = tgamma(v);
    out[i + 7 * n] = atan2(v, 2.0);
    out[i + 8 * n] = sqrt(v);
    out[i + 9 * n] = cbrt(v);
    out[i + 10 * n] = fmod(v, 0.7);
}

extern "C" __global__ void floats(const float *x, float *out, int n)
{
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n)
        return;
    float v = x[i];
    out[i] = sinf(v);
    out[i + n] = expf(v);
    out[i + 2 * n] = logf(v);
    out[i + 3 * n] = powf(v, 1.7f);
    out[i + 4 * n] = rsqrtf(v);
    out[i + 5 * n] = tanhf(v);
    out[i + 6 * n] = __fdividef(1.0f, v);
    out[i + 7 * n] = rintf(v);
    out[i + 8 * n] = fmaxf(v, 1.5f);
    out[i + 9 * n] = __expf(v);
}
