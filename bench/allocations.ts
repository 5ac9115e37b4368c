import { GCProfiler, getHeapStatistics } from 'node:v8';

export interface Allocated {
  /** Bytes that were put onto V8's heap. Contents of buffers lie outside of it. */
  readonly bytes: number;
  /** Milliseconds of the main thread in collections of garbage. */
  readonly gcMs: number;
}

/**
 * Counts what this process allocates: what the heap has grown by from one collection of garbage to the next. V8 says
 * how much of the heap was used before and after each, so nothing is sampled.
 */
export class Allocations {
  private profiler = started();
  private used = usedHeap();
  private bytes = 0;
  private gcMs = 0;

  /** So far. */
  read(): Allocated {
    const collections = this.profiler.stop().statistics;
    for (const { beforeGC, afterGC, cost } of collections) {
      this.bytes += beforeGC.heapStatistics.usedHeapSize - this.used;
      this.used = afterGC.heapStatistics.usedHeapSize;
      this.gcMs += cost / 1_000;
    }
    const now = usedHeap();
    this.bytes += now - this.used;
    this.profiler = started();
    this.used = usedHeap();
    return { bytes: this.bytes, gcMs: this.gcMs };
  }
}

function started(): GCProfiler {
  const profiler = new GCProfiler();
  profiler.start();
  return profiler;
}

function usedHeap(): number {
  return getHeapStatistics().used_heap_size;
}
